//! Kernel memory of sockets. With clients and server on one machine, each established connection is two
//! sockets, of which the server has one: its share is half, but for what only the client's side has.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use serde::Serialize;

/// The slab caches that hold sockets, with the server's share in what a connection adds to them.
///
/// Names of files and directories are in `dentry` too, so what it adds is bounded by `sock_inode_cache`.
const CACHES: [(&str, f64); 11] = [
    ("TCP", 0.5),
    ("TCPv6", 0.5),
    ("sock_inode_cache", 0.5),
    ("filp", 0.5),
    ("dentry", 0.5),
    ("eventpoll_epi", 0.5),
    ("eventpoll_pwq", 0.5),
    ("skbuff_head_cache", 0.5),
    ("skbuff_small_head", 0.5),
    // Local ports chosen when connecting.
    ("tcp_bind_bucket", 0.0),
    ("tcp_bind2_bucket", 0.0),
];
const DENTRY_BOUND: &str = "sock_inode_cache";

/// Where the figures are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Source {
    /// Objects in use in /proc/slabinfo, times their sizes. Needs root.
    Slab,
    /// TCP sockets in /proc/net/sockstat, times a constant, and the pages of their buffers.
    Sockstat,
}

/// Socket memory of the whole machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) source: Source,
    caches: BTreeMap<String, Cache>,
    /// Bytes of socket buffers, by /proc/net/sockstat.
    buffers: f64,
    /// TCP sockets, by /proc/net/sockstat.
    pub(crate) sockets: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Cache {
    objects: f64,
    bytes_each: f64,
}

/// Of a socket without buffers, where slabs can't be read: the sum of the objects above, measured on Linux 6.
const BYTES_A_SOCKET: f64 = 3800.0;
const PAGE: f64 = 4096.0;

impl Figures {
    /// Reads /proc/slabinfo, or only /proc/net/sockstat where the former is not permitted.
    ///
    /// # Errors
    /// When neither can be read or understood.
    pub(crate) fn take() -> Result<Self> {
        let sockstat = fs::read_to_string("/proc/net/sockstat").context("reading /proc/net/sockstat")?;
        let (sockets, pages) = tcp_of(&sockstat).context("/proc/net/sockstat has no TCP line")?;
        let (source, caches) = match fs::read_to_string("/proc/slabinfo") {
            Ok(text) => (Source::Slab, caches_of(&text)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => (Source::Sockstat, BTreeMap::new()),
            Err(error) => return Err(error).context("reading /proc/slabinfo"),
        };
        Ok(Self { source, caches, buffers: pages * PAGE, sockets })
    }

    /// The server's share of the bytes added since `before`.
    pub(crate) fn server_share_since(&self, before: &Self) -> f64 {
        let sockets = match self.source {
            Source::Slab => {
                CACHES.iter().map(|(name, share)| self.bytes_added(name, before).max(0.0) * share).sum()
            }
            Source::Sockstat => (self.sockets - before.sockets) * BYTES_A_SOCKET / 2.0,
        };
        sockets + (self.buffers - before.buffers).max(0.0) / 2.0
    }

    fn bytes_added(&self, name: &str, before: &Self) -> f64 {
        let Some(cache) = self.caches.get(name) else { return 0.0 };
        let mut objects = self.objects_added(name, before);
        if name == "dentry" {
            objects = objects.min(self.objects_added(DENTRY_BOUND, before));
        }
        objects * cache.bytes_each
    }

    fn objects_added(&self, name: &str, before: &Self) -> f64 {
        let objects = |figures: &Self| figures.caches.get(name).map_or(0.0, |cache| cache.objects);
        objects(self) - objects(before)
    }
}

fn caches_of(slabinfo: &str) -> BTreeMap<String, Cache> {
    slabinfo
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let name = fields.next().filter(|name| CACHES.iter().any(|(known, _)| known == name))?;
            let objects = fields.next()?.parse().ok()?;
            let bytes_each = fields.nth(1)?.parse().ok()?;
            Some((name.to_owned(), Cache { objects, bytes_each }))
        })
        .collect()
}

/// Sockets allocated and pages of buffers.
fn tcp_of(sockstat: &str) -> Option<(f64, f64)> {
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"))?;
    let value = |name| line.split_whitespace().skip_while(|word| *word != name).nth(1)?.parse().ok();
    Some((value("alloc")?, value("mem")?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SOCKSTAT: &str = "sockets: used 13\nTCP: inuse 5 orphan 0 tw 2 alloc 7 mem 3\nUDP: inuse 0 mem 0\n";

    fn figures(tcp: f64, inodes: f64, dentries: f64, source: Source) -> Figures {
        let slab = format!(
            "slabinfo - version: 2.1\nTCP {tcp} 9 2000 13 8 : tunables\nsock_inode_cache {inodes} 9 800 19 4\n\
             dentry {dentries} 9 200 21 1\nxfs_inode 5 5 5 5 5\ntcp_bind_bucket 500 9 100 1 1\n"
        );
        Figures { source, caches: caches_of(&slab), buffers: 0.0, sockets: tcp }
    }

    #[test]
    fn sockstat_gives_sockets_and_pages() {
        assert_eq!(tcp_of(SOCKSTAT), Some((7.0, 3.0)));
    }

    #[test]
    fn the_server_has_half_of_the_sockets_and_no_foreign_dentries() {
        let before = figures(0.0, 0.0, 1000.0, Source::Slab);
        let after = figures(200.0, 200.0, 9000.0, Source::Slab);
        assert_eq!(after.server_share_since(&before), 100.0 * (2000.0 + 800.0 + 200.0));
    }

    #[test]
    fn without_slabs_sockets_are_counted() {
        let before = figures(10.0, 0.0, 0.0, Source::Sockstat);
        let after = figures(210.0, 0.0, 0.0, Source::Sockstat);
        assert_eq!(after.server_share_since(&before), 100.0 * 3800.0);
    }
}
