//! A table of the file, read key by key. Problems go to the report, and reading goes on.

use super::report::Report;
use super::value::{self, Read};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) struct Section<'a> {
    /// How the file calls it: `[link]`. Empty for what stands before any table.
    title: &'static str,
    span: Range<usize>,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    pub(super) report: &'a Report<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a DeTable<'a>, report: &'a Report<'a>) -> Self {
        Self { title: "", span: 0..0, table, known: Vec::new(), report }
    }

    /// Where it begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// None when the key is not there, or its value is wrong, which has been reported.
    pub(super) fn given<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Read<T>,
    ) -> Option<Spanned<T>> {
        let found = self.find(key)?;
        match read(found.get_ref()) {
            Ok(value) => Some(Spanned::new(found.span(), value)),
            Err(message) => {
                self.report.add(found.span(), format!("{key}: {message}"));
                None
            }
        }
    }

    /// The default when the key is not there.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&DeValue<'_>) -> Read<T>,
    ) -> T {
        self.given(key, read).map_or(default, Spanned::into_inner)
    }

    /// As `given`, and a key that is not there is reported, with an example of it.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'_>) -> Read<T>,
    ) -> Option<Spanned<T>> {
        if self.find(key).is_none() {
            let place = if self.title.is_empty() { "the file" } else { self.title };
            self.report.add(self.span(), format!("{place} has no {key}: add {key} = {example}"));
        }
        self.given(key, read)
    }

    /// The table `[key]`.
    pub(super) fn table(&mut self, key: &'static str, title: &'static str) -> Option<Self> {
        let found = self.find(key)?;
        self.section(found, title)
    }

    /// The tables `[[key]]`. That there are none is reported, with an example.
    pub(super) fn tables(&mut self, key: &'static str, title: &'static str, example: &str) -> Vec<Self> {
        match self.find(key).map(|found| (found.span(), found.get_ref())) {
            Some((_, DeValue::Array(tables))) if !tables.is_empty() => {
                tables.iter().filter_map(|table| self.section(table, title)).collect()
            }
            Some((span, other)) if !other.is_array() => {
                self.report.add(span, format!("expected tables {title}, found {}", value::kind(other)));
                Vec::new()
            }
            found => {
                let span = found.map_or(self.span(), |(span, _)| span);
                self.report.add(span, format!("there are no {key}: add {title} with {example}"));
                Vec::new()
            }
        }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table {
            if !self.known.contains(&key.get_ref().as_ref()) {
                let place = if self.title.is_empty() { "" } else { " in " };
                let known = self.known.join(", ");
                let message =
                    format!("unknown key {:?}{place}{}: it can be {known}", key.get_ref(), self.title);
                self.report.add(key.span(), message);
            }
        }
    }

    fn find(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    fn section(&self, found: &'a Spanned<DeValue<'a>>, title: &'static str) -> Option<Self> {
        match found.get_ref() {
            DeValue::Table(table) => {
                Some(Self { title, span: found.span(), table, known: Vec::new(), report: self.report })
            }
            other => {
                self.report
                    .add(found.span(), format!("expected a table {title}, found {}", value::kind(other)));
                None
            }
        }
    }
}
