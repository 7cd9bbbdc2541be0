//! Figures in Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

use crate::control::{Control, ListenerStats, NodeStats, Stats};

pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures.
pub(super) fn of(control: &dyn Control) -> String {
    let mut page = Page::default();
    let stats = control.stats();
    whole(&mut page, &stats, control.is_ready());
    nodes(&mut page, &stats.nodes);
    listeners(&mut page, &control.listeners());
    page.text
}

fn whole(page: &mut Page, stats: &Stats, is_ready: bool) {
    let labels = [("name", stats.name.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
    page.gauge("info", "The ECM's name and version.").sample(&labels, 1_u32);
    page.gauge("uptime_seconds", "Since the program began.").sample(&[], stats.uptime.as_secs());
    page.gauge("ready", "Whether it takes clients: 1, or 0.").sample(&[], u32::from(is_ready));
    page.gauge("draining", "Whether it closes its clients to end: 1, or 0.")
        .sample(&[], u32::from(stats.is_draining));
    page.gauge("workers", "Threads that hold clients.").sample(&[], stats.workers);
    page.gauge("connections", "Clients that are connected.").sample(&[], stats.connections);
    page.gauge("max_connections", "Clients that may be connected.").sample(&[], stats.max_connections);
    page.counter("accepted_total", "Clients that were accepted.").sample(&[], stats.accepted);
    page.counter("refused_total", "Clients that were closed before they had a stream.")
        .sample(&[], stats.refused);
    page.counter("received_bytes_total", "Bytes from clients.").sample(&[], stats.received);
    page.counter("sent_bytes_total", "Bytes to clients.").sample(&[], stats.sent);
}

fn nodes(page: &mut Page, nodes: &[NodeStats]) {
    let label = |node: &NodeStats| vec![("node", node.name.clone())];
    page.gauge("node_up", "Whether a node takes clients: 1, or 0.")
        .each(nodes, label, |node| u32::from(node.is_up));
    page.gauge("node_links_up", "Links that have a connection.").each(nodes, label, |node| node.links_up);
    page.gauge("node_links_suspended", "Links that wait for a connection.")
        .each(nodes, label, |node| node.links_suspended);
    page.gauge("node_streams", "Streams of a node's links.").each(nodes, label, |node| node.streams);
    page.gauge("node_kept_bytes", "Bytes of a node's links that are kept until they are acknowledged.").each(
        nodes,
        label,
        |node| node.kept_bytes,
    );
    page.counter("node_link_cuts_total", "Connections of links that were lost.")
        .each(nodes, label, |node| node.cuts);
    page.counter("node_link_resumptions_total", "Links that were resumed.")
        .each(nodes, label, |node| node.resumed);
    page.counter("node_link_losses_total", "Links that were lost with their streams.").each(
        nodes,
        label,
        |node| node.lost,
    );
}

fn listeners(page: &mut Page, listeners: &[ListenerStats]) {
    let labels = |listener: &ListenerStats| {
        vec![("listen", listener.listen.to_string()), ("for", listener.node_listener.clone())]
    };
    page.gauge("listener_open", "Whether a listener accepts: 1, or 0.")
        .each(listeners, labels, |listener| u32::from(listener.is_open));
    page.gauge("listener_connections", "A listener's clients that are connected.").each(
        listeners,
        labels,
        |listener| listener.connections,
    );
    page.gauge("listener_max_connections", "A listener's clients that may be connected.").each(
        listeners,
        labels,
        |listener| listener.max_connections,
    );
    page.counter("listener_accepted_total", "A listener's clients that were accepted.").each(
        listeners,
        labels,
        |listener| listener.accepted,
    );
}

#[derive(Default)]
struct Page {
    text: String,
}

/// A metric whose samples follow.
struct Metric<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Page {
    fn gauge(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.metric("gauge", name, help)
    }

    fn counter(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.metric("counter", name, help)
    }

    /// `help` is ours, and has nothing to be escaped.
    fn metric(&mut self, kind: &str, name: &'static str, help: &str) -> Metric<'_> {
        self.text
            .push_str(&format!("# HELP megaphone_ecm_{name} {help}\n# TYPE megaphone_ecm_{name} {kind}\n"));
        Metric { page: self, name }
    }
}

impl Metric<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl ToString) {
        let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value)));
        let labels = labels.collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        self.page.text.push_str(&format!("megaphone_ecm_{}{labels} {}\n", self.name, value.to_string()));
    }

    fn each<T, V: ToString>(
        &mut self,
        items: &[T],
        labels: impl Fn(&T) -> Vec<(&'static str, String)>,
        value: impl Fn(&T) -> V,
    ) {
        for item in items {
            let labels = labels(item);
            let labels = labels.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>();
            self.sample(&labels, value(item));
        }
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
