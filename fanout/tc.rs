//! By which ways the TC program can send: all that the kernel has, for the kernel does it.

use fanout_ebpf::abi::Egress;

use crate::{config::Source, in_kernel::Way, neighbor::Path};

/// How `path` is taken by datagrams whose source address becomes `source`.
///
/// # Errors
/// Why it can't be, and what mends that.
pub fn choose(path: &Path, source: Source) -> Result<Way, String> {
    if path.encapsulated {
        return Err(
            "the route encapsulates, which only the kernel's own routing does: that takes mode af_xdp or \
             userspace"
                .to_owned(),
        );
    }
    let egress = match path.local {
        true if path.next_hop.is_loopback() => Egress::Loopback,
        true => return Way::up(path, source),
        false => Egress::OtherInterface,
    };
    Ok(Way {
        egress,
        interface: path.link.index,
        vlan: None,
    })
}
