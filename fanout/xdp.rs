//! By which ways the XDP program can send, and what mends it where it can't.
//!
//! Natively a frame can leave by the interface that it came by (`XDP_TX`), and by any other whose driver takes
//! redirected frames (`ndo_xdp_xmit`); one that doesn't would drop them without a word, so the kernel is
//! asked first. In skb mode the kernel sends an skb, as by any interface.

use std::collections::HashSet;

use fanout_ebpf::abi::Egress;

use crate::{
    bpf::Mode,
    config::Source,
    in_kernel::Way,
    link::{IfIndex, Link, Links},
    neighbor::Path,
    xdp_features::XdpFeatures,
};

/// Chooses the ways of the datagrams of one interface.
#[derive(Debug)]
pub struct Egresses<'l> {
    ingress: &'l Link,
    mode: Mode,
    links: &'l Links,
    features: &'l mut XdpFeatures,
    devices: HashSet<IfIndex>,
}

impl<'l> Egresses<'l> {
    /// For a program that is attached to `ingress` in `mode`.
    #[must_use]
    pub fn new(
        ingress: &'l Link,
        mode: Mode,
        links: &'l Links,
        features: &'l mut XdpFeatures,
    ) -> Self {
        Self {
            ingress,
            mode,
            links,
            features,
            devices: HashSet::new(),
        }
    }

    /// How `path` is taken by datagrams whose source address becomes `source`.
    ///
    /// # Errors
    /// Why it can't be, and what mends that.
    pub fn choose(&mut self, path: &Path, source: Source) -> Result<Way, String> {
        if path.local {
            return Way::up(path, source);
        }
        if path.mac.is_none() {
            let name = &path.link.name;
            return Err(format!(
                "only the kernel can send by {name}: that takes mode af_xdp or userspace"
            ));
        }
        let (link, vlan) = match path.link.vlan {
            // What a VLAN device would do: the tag, and its parent's queue. It takes no redirected frames.
            Some(vlan) if self.mode == Mode::Native || vlan.parent == self.ingress.index => {
                let parent = self.links.by_index(vlan.parent);
                (parent.ok_or("its VLAN's interface is gone")?, Some(vlan.id))
            }
            _ => (&path.link, None),
        };
        Ok(Way {
            egress: self.egress(link)?,
            interface: link.index,
            vlan,
        })
    }

    fn egress(&mut self, link: &Link) -> Result<Egress, String> {
        let native = self.mode == Mode::Native;
        // On a veth XDP_TX stalls unless its other end runs XDP too; a redirect to itself does not.
        if link.index == self.ingress.index && !(native && link.veth) {
            return Ok(Egress::SameInterface);
        }
        if native && self.features.takes_redirects(link.index) == Some(false) {
            return Err(refusal(link));
        }
        self.devices.insert(link.index);
        Ok(Egress::OtherInterface)
    }

    /// The interfaces that frames are redirected to.
    #[must_use]
    pub fn into_devices(self) -> HashSet<IfIndex> {
        self.devices
    }
}

fn refusal(link: &Link) -> String {
    let name = &link.name;
    if link.veth {
        return format!(
            "veth {name} takes no redirected frames: turn GRO on at its other end \
             (ethtool -K … gro on) or run XDP there, or use mode af_xdp or tc_ebpf"
        );
    }
    format!(
        "interface {name} takes no redirected frames: use mode af_xdp or tc_ebpf; some drivers take them \
         while an XDP program is on the interface"
    )
}

#[cfg(test)]
mod tests;
