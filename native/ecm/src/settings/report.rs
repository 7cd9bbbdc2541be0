//! What is wrong with a configuration, and where.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A place in a text. Both begin with 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

/// One thing that is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where. None when the file can't be read at all.
    pub position: Option<Position>,
    /// What, and what to do.
    pub message: String,
}

/// All that was found in a file, in its order. Shown one a line, as compilers do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file, as it was called.
    pub file: PathBuf,
    /// At least one.
    pub list: Vec<Problem>,
}

impl Problems {
    pub(super) fn of_file(file: &Path, message: String) -> Self {
        Self { file: file.to_owned(), list: vec![Problem { position: None, message }] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { position, message } in &self.list {
            match position {
                Some(Position { line, column }) => {
                    writeln!(f, "{}:{line}:{column}: {message}", self.file.display())?;
                }
                None => writeln!(f, "{}: {message}", self.file.display())?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where problems are gathered while a text is read.
pub(super) struct Report<'a> {
    text: &'a str,
    found: RefCell<Vec<(usize, String)>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::default() }
    }

    pub(super) fn add(&self, span: Range<usize>, message: impl Into<String>) {
        self.found.borrow_mut().push((span.start, message.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// The line of a place, for a message about another one.
    pub(super) fn line(&self, span: Range<usize>) -> usize {
        position(self.text, span.start).line
    }

    pub(super) fn into_problems(self, file: &Path) -> Problems {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(offset, _)| *offset);
        // Brackets that are not closed end in one place.
        found.dedup();
        let problem = |(offset, message)| Problem { position: Some(position(self.text, offset)), message };
        Problems { file: file.to_owned(), list: found.into_iter().map(problem).collect() }
    }
}

fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    // Editors don't count a byte order mark.
    let before = before.trim_start_matches('\u{feff}');
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("a\nüü = 1", 7), Position { line: 2, column: 4 });
        assert_eq!(position("", 0), Position { line: 1, column: 1 });
        assert_eq!(position("\u{feff}a = 1", 7), Position { line: 1, column: 5 });
    }
}
