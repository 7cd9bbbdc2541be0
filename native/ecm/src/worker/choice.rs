//! Which node a client goes to.

use std::net::IpAddr;

/// How much a node is a client's own by its address: that of the highest number has it. Each worker and each ECM comes to the
/// same, and a node that comes or goes moves only its own clients (weighted rendezvous hashing).
pub(super) fn affinity(client: Option<IpAddr>, node: &str, weight: u16) -> f64 {
    let mut hash = Fnv::default();
    match client {
        Some(IpAddr::V4(ip)) => hash.add(&ip.octets()),
        Some(IpAddr::V6(ip)) => hash.add(&ip.octets()),
        None => {}
    }
    hash.add(node.as_bytes());
    // Above 0 and below 1.
    let fraction = ((mix(hash.0) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    f64::from(weight) / -fraction.ln()
}

/// FNV-1a: the same on every machine and with every compiler.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Spreads what differs over all bits (the end of `SplitMix64`).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: u32 = 20_000;

    fn owner(client: u32, nodes: &[(&'static str, u16)]) -> &'static str {
        let ip = IpAddr::V4(client.wrapping_mul(257).into());
        let of = |node: &(&str, u16)| affinity(Some(ip), node.0, node.1);
        nodes.iter().max_by(|a, b| of(a).total_cmp(&of(b))).unwrap().0
    }

    #[test]
    fn shares_are_as_the_weights() {
        let nodes = [("ejabberd@a", 1), ("ejabberd@b", 1), ("ejabberd@c", 2)];
        let of_c = (0..CLIENTS).filter(|client| owner(*client, &nodes) == "ejabberd@c").count();
        let of_a = (0..CLIENTS).filter(|client| owner(*client, &nodes) == "ejabberd@a").count();
        assert!((9_500..10_500).contains(&of_c), "{of_c}");
        assert!((4_500..5_500).contains(&of_a), "{of_a}");
    }

    #[test]
    fn a_node_that_goes_moves_only_its_own() {
        let all = [("ejabberd@a", 1), ("ejabberd@b", 3), ("ejabberd@c", 1)];
        for client in 0..CLIENTS {
            let before = owner(client, &all);
            if before != "ejabberd@c" {
                assert_eq!(owner(client, &all[..2]), before);
            }
        }
    }
}
