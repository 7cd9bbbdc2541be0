//! What all steps have in common: the host, the clock, the settings.

use crate::clock::Clock;
use crate::host::Host;
use crate::notices::Notices;
use crate::settings::XmppConfig;
use megaphone_proto::bosh;
use megaphone_proto::time::Time;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Shared<H: Host> {
    pub(crate) host: H,
    pub(crate) notices: Notices,
    /// What the session ids of this start of the node begin with.
    pub(crate) sid_tag: u64,
    clock: Clock,
    xmpp: RwLock<Arc<XmppConfig>>,
    /// Those of the configuration, as sessions share them.
    bosh_hosts: RwLock<HashMap<Box<str>, Arc<bosh::Config>>>,
}

impl<H: Host> Shared<H> {
    pub(crate) fn new(host: H, sid_tag: u64) -> Self {
        Self {
            host,
            notices: Notices::default(),
            sid_tag,
            clock: Clock::new(),
            xmpp: RwLock::default(),
            bosh_hosts: RwLock::default(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn deadline(&self, after: Duration) -> Time {
        self.clock.deadline(after)
    }

    pub(crate) fn xmpp(&self) -> Arc<XmppConfig> {
        Arc::clone(&self.xmpp.read())
    }

    pub(crate) fn set_xmpp(&self, config: XmppConfig) {
        let hosts = config.bosh_hosts.iter().map(|(host, config)| (host.clone(), Arc::new(*config)));
        *self.bosh_hosts.write() = hosts.collect();
        *self.xmpp.write() = Arc::new(config);
    }

    /// The settings of a host that has BOSH sessions here.
    pub(crate) fn bosh_host(&self, host: &str) -> Option<Arc<bosh::Config>> {
        self.bosh_hosts.read().get(host).cloned()
    }
}
