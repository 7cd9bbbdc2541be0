//! Distribution flags: what a node can do.

const EXTENDED_REFERENCES: u64 = 0x4;
const DIST_MONITOR: u64 = 0x8;
const FUN_TAGS: u64 = 0x10;
const DIST_MONITOR_NAME: u64 = 0x20;
const NEW_FUN_TAGS: u64 = 0x80;
const EXTENDED_PIDS_PORTS: u64 = 0x100;
const EXPORT_PTR_TAG: u64 = 0x200;
const BIT_BINARIES: u64 = 0x400;
const NEW_FLOATS: u64 = 0x800;
const SMALL_ATOM_TAGS: u64 = 0x4000;
const UTF8_ATOMS: u64 = 0x1_0000;
const MAP_TAG: u64 = 0x2_0000;
const BIG_CREATION: u64 = 0x4_0000;
const HANDSHAKE_23: u64 = 0x100_0000;
const UNLINK_ID: u64 = 0x200_0000;
const MANDATORY_25_DIGEST: u64 = 1 << 36;
const V4_NC: u64 = 1 << 34;
const ALIAS: u64 = 1 << 35;

/// Its name is to be given by whom it connects to.
pub(super) const NAME_ME: u64 = 1 << 33;

/// What we announce: all that OTP 25 to 29 ask for, monitors by name, and aliases. Not PUBLISHED, which makes the node a hidden one;
/// not the atom cache, fragments, or spawning.
pub(super) const OURS: u64 = EXTENDED_REFERENCES
    | DIST_MONITOR
    | FUN_TAGS
    | DIST_MONITOR_NAME
    | NEW_FUN_TAGS
    | EXTENDED_PIDS_PORTS
    | EXPORT_PTR_TAG
    | BIT_BINARIES
    | NEW_FLOATS
    | SMALL_ATOM_TAGS
    | UTF8_ATOMS
    | MAP_TAG
    | BIG_CREATION
    | HANDSHAKE_23
    | UNLINK_ID
    | MANDATORY_25_DIGEST
    | V4_NC
    | ALIAS;

/// What we can't do without.
pub(super) const REQUIRED: u64 =
    EXTENDED_REFERENCES | EXTENDED_PIDS_PORTS | UTF8_ATOMS | BIG_CREATION | HANDSHAKE_23;

/// What [`MANDATORY_25_DIGEST`] stands for: peers of OTP 25 and later may leave these out, and say that instead.
const DIGEST_25: u64 = EXTENDED_REFERENCES
    | FUN_TAGS
    | EXTENDED_PIDS_PORTS
    | UTF8_ATOMS
    | NEW_FUN_TAGS
    | BIG_CREATION
    | NEW_FLOATS
    | MAP_TAG
    | EXPORT_PTR_TAG
    | BIT_BINARIES
    | HANDSHAKE_23;

/// All that they say.
pub(super) const fn expand(flags: u64) -> u64 {
    if flags & MANDATORY_25_DIGEST == 0 { flags } else { flags | DIGEST_25 }
}
