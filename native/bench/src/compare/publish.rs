//! docs/benchmarks.md: a section for each comparison, with all that is needed to repeat it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::compare::outcome::CaseOutcome;
use crate::compare::{plot, report, target};
use crate::server::variant::{ask_erlang, ejabberd_version};

const HEADER: &str = "# Benchmarks\n\n\
    Written by `scripts/bench --publish`, which says in each section what it ran and on what. Variants run in \
    turn on one machine, together with the load generator. Figures are medians, with the range over the \
    rounds in brackets.\n\n\
    What the figures are:\n\n\
    - Memory is what each user or connection adds to a server that was at rest before and is at rest again. \
    *Resident* is the whole Erlang VM, what Rust holds in it included; *BEAM bytes* are `erlang:memory(total)`, \
    which leaves Rust out; *bytes from malloc* are what native code holds, which is Rust's part and \
    is in the resident bytes. *Kernel* is the server's half of what the machine's sockets take, so sockets of other programs \
    disturb it. *All-in* is resident and kernel together.\n\
    - Latency counts from the time at which something was due, so a slow server cannot slow down its own load.\n\
    - CPU a login, message or request is user and system time of the Erlang VM, divided by how many there were. With XMPP users \
     both VMs run without busy waiting of idle schedulers (`+sbwt none`), which would count as work.\n\
    - Users whom a server turned away are errors; where the figures need every user to be there they try again, \
    and a row says how often.\n\
    - A target is what a figure of Megaphone is to come to.\n";
const DOCUMENT: &str = "docs/benchmarks.md";
const PLOTS: &str = "docs/benchmarks";

/// Writes the sections of `outcomes` into the document and leaves those of other comparisons as they are.
///
/// # Errors
/// When files can't be written, or the versions of what ran can't be found out.
pub(crate) fn publish(outcomes: &[CaseOutcome]) -> Result<()> {
    fs::create_dir_all(PLOTS)?;
    let mut sections = match fs::read_to_string(DOCUMENT) {
        Ok(document) => sections_of(&document),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error).context(DOCUMENT),
    };
    let circumstances = circumstances()?;
    for outcome in outcomes {
        plot::draw(outcome, &Path::new(PLOTS).join(format!("{}.svg", outcome.name)))?;
        sections.insert(outcome.name.clone(), section(outcome, &circumstances));
    }
    let text: String = sections.iter().map(|(name, section)| format!("\n## {name}\n{section}")).collect();
    fs::write(DOCUMENT, format!("{HEADER}{text}")).context(DOCUMENT)?;
    println!("Published in {DOCUMENT}");
    Ok(())
}

fn sections_of(document: &str) -> BTreeMap<String, String> {
    document
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .map(|(name, text)| (name.to_owned(), format!("{}\n", text.trim_end())))
        .collect()
}

fn section(outcome: &CaseOutcome, circumstances: &str) -> String {
    let mut text =
        format!("\n{}\n\n{}\n\n", outcome.description, report::verdict(std::slice::from_ref(outcome)));
    for (number, row) in report::table(outcome).iter().enumerate() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if number == 0 {
            let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
        }
    }
    for line in target::judgements(outcome) {
        let _ = write!(text, "\n- {line}");
    }
    text.push('\n');
    for note in outcome.notes() {
        let _ = write!(text, "\n({note})\n");
    }
    let _ = write!(text, "\n![{name}](benchmarks/{name}.svg)\n\n{circumstances}\n", name = outcome.name);
    text
}

fn circumstances() -> Result<String> {
    let arguments: Vec<String> =
        std::env::args().skip(2).filter(|argument| argument != "--publish").collect();
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "Command: `scripts/bench {}`. Machine: {} processors ({}), {:.0} GiB of memory, Linux {}. \
         ejabberd {}, Erlang/OTP {}, Megaphone {}.",
        arguments.join(" "),
        std::thread::available_parallelism()?,
        field(&cpu, "model name").unwrap_or("of unknown model"),
        memory.unwrap_or(0.0) / 1024.0 / 1024.0,
        kernel.trim().split('-').next().unwrap_or_default(),
        ejabberd_version()?,
        ask_erlang("erlang:system_info(otp_release)")?,
        env!("CARGO_PKG_VERSION"),
    ))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_survive_being_read_and_written() {
        let document = format!("{HEADER}\n## chat\n\na | b\n\n## idle\n\nc\n");
        let sections = sections_of(&document);
        assert_eq!(sections["chat"], "\na | b\n");
        let again: String = sections.iter().map(|(name, text)| format!("\n## {name}\n{text}")).collect();
        assert_eq!(format!("{HEADER}{again}"), document);
    }
}
