//! Ways in under the policy of the files, with the members by command.

use super::Engine;
use super::files::lines;
use crate::host::Server;
use control::sshd_ports;
use policy::{Entered, Policy, check_sshd, check_way_in};

impl Engine {
    /// That `policy` takes the last way in, beside what is applied and what is gone back to while a
    /// change waits: that one is a way in as long as nobody confirmed.
    pub(super) fn lost_way_in(&self, policy: &Policy, server: &Server) -> Option<String> {
        let own = netlink::addresses().unwrap_or_default();
        let new = Entered { role: &server.role, own: &own };
        let old = Entered { role: &self.server.role, own: &own };
        let policy = self.members.added_to(policy);
        let lost = [&self.applied, self.lasting()]
            .into_iter()
            .find_map(|before| policy.lost_way_in(new, &self.members.added_to(before), old));
        lost.map(|lost| lost.to_string())
    }

    /// Warnings of `policy` as to how this server is administered: that nobody may come in, and that
    /// sshd, or whoever asks, is on a port that isn't guarded. Whose a listener is, the daemon can't
    /// see: it reads sshd's own configuration.
    pub(super) fn way_in_warnings(&self, policy: &Policy, server: &Server) -> Vec<String> {
        let own = netlink::addresses().unwrap_or_default();
        let entered = Entered { role: &server.role, own: &own };
        let mut found = check_way_in(&self.members.added_to(policy), entered);
        let mut ports = sshd_ports(&self.options.root);
        ports.extend(self.asked.over.map(|over| over.local.port()));
        found.extend(check_sshd(policy, &ports));
        lines(&found)
    }
}
