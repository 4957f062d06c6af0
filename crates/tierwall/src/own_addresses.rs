//! This host's own addresses, and who chose them.

use crate::error::Error;
use policy::{HostAddress, Origin};

/// All by which others can reach it.
pub(crate) fn own_addresses() -> Result<Vec<HostAddress>, Error> {
    let found = netlink::host_addresses().map_err(Error::Addresses)?;
    Ok(found.into_iter().map(of_kernel).collect())
}

fn of_kernel(found: netlink::HostAddress) -> HostAddress {
    let netlink::HostAddress { address, prefix_length, is_permanent, shows_advertisement } = found;
    let origin = Origin::of(address, prefix_length, is_permanent, shows_advertisement);
    HostAddress { address, origin }
}
