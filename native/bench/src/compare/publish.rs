//! docs/benchmarks.md: a section for each comparison, with all that is needed to repeat it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::compare::judgement::judgements;
use crate::compare::outcome::CaseOutcome;
use crate::compare::{plot, report};
use crate::server::variant::{ask_erlang, ejabberd_version};

const HEADER: &str = "# Benchmarks\n\n\
    Written by `scripts/bench --publish`, which says in each section what it ran and on what. Servers and load \
    generator share one machine.\n\n\
    How times are measured (http, chat, logins, bosh, flood, shapes):\n\n\
    - Both servers are up, with all their users online, and only one of them is under load. They are measured in \
    short windows that alternate: A B, B A, A B and so on, at least five of each. What changes on the machine in \
    the meantime touches both alike, window i of one is a neighbour of window i of the other, and neither is \
    always the second. Nothing is restarted in between, so no window has a server that is colder than the \
    other's.\n\
    - Both VMs run without busy waiting of idle schedulers (`+sbwt none`): it would count as work, and a server \
    without load would disturb the other.\n\
    - A window is discarded and measured again when other programs kept more than a tenth of a core busy. Others \
    are all processes of the machine but the generator and the server under load; the server without load is \
    among them. Their times are added up process by process: the machine's own count is sampled and misses much \
    of a load of short runs. Processor time that a hypervisor took away counts too. Time in interrupts does not: \
    on loopback it is the load's own.\n\
    - At most twice the windows that were asked for are measured. When they do not suffice, disturbed windows \
    are kept, the report says NOT TRUSTWORTHY, the program ends with status 3, and the comparison is not \
    published.\n\
    - Each figure is the median over the windows, with their range in brackets. A ratio is that of the medians, \
    with the range of the ratios of window i to window i in brackets. A range on both sides of 1 is no \
    difference.\n\n\
    Memory (memory, idle) is measured in longer runs, each with a fresh server, which alternate too. They are not \
    repeated when other programs work meanwhile; a note says so.\n\n\
    What the figures are:\n\n\
    - Memory is what each user or connection adds to a server that was at rest before and is at rest again. \
    *Resident* is the whole Erlang VM, what Rust holds in it included; *BEAM bytes* are `erlang:memory(total)`, \
    which leaves Rust out; *bytes from malloc* are what native code holds, which is Rust's part and \
    is in the resident bytes. *Kernel* is the server's half of what the machine's sockets take, so sockets of other programs \
    disturb it. *All-in* is resident and kernel together.\n\
    - Latency counts from the time at which something was due, so a slow server cannot slow down its own load. \
    Percentiles are of each window; the table has the median of the windows'.\n\
    - CPU a login, message or request is user and system time of the Erlang VM and its children during the window, \
    divided by how many there were.\n\
    - Users whom a server turned away are errors; where the figures need every user to be there they try again, \
    and a row says how often.\n\
    - A target is what a figure of Megaphone is to come to, in the median.\n";
const DOCUMENT: &str = "docs/benchmarks.md";
const PLOTS: &str = "docs/benchmarks";

/// Writes the sections of `outcomes` into the document and leaves those of other comparisons as they are, and of
/// those that are not to be trusted.
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
        if !outcome.is_trustworthy() {
            println!("Not published, because not trustworthy: {}", outcome.name);
            continue;
        }
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
    if let Some(trust) = outcome.trust() {
        let _ = write!(text, "\n{trust}\n");
    }
    for line in judgements(outcome) {
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
    fn the_document_describes_how_this_program_measures() {
        let document = include_str!("../../../../docs/benchmarks.md");
        assert!(document.starts_with(HEADER), "begin docs/benchmarks.md with:\n{HEADER}");
    }

    #[test]
    fn sections_survive_being_read_and_written() {
        let document = format!("{HEADER}\n## chat\n\na | b\n\n## idle\n\nc\n");
        let sections = sections_of(&document);
        assert_eq!(sections["chat"], "\na | b\n");
        let again: String = sections.iter().map(|(name, text)| format!("\n## {name}\n{text}")).collect();
        assert_eq!(format!("{HEADER}{again}"), document);
    }
}
