//! Comparisons: each measures all variants in turn, several times, and says what came out.

mod bosh;
mod case;
mod chat;
mod figure;
mod flood;
mod flow;
mod http;
mod idle;
mod judgement;
mod lab;
mod links;
mod logins;
mod memory;
pub(crate) mod options;
mod outcome;
mod plot;
mod publish;
mod report;
mod rounds;
pub(crate) mod run;
mod save;
mod schedule;
mod shapes;
mod site;
mod target;
mod wake;
