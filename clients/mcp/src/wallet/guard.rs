//! Where a model's requests may go: out, and not to what is inside.

use super::refusal::Refusal;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Keeps requests away from the owner's machine and network: only public addresses are connected to, except for hosts that the
/// owner has named. A name that resolves to an address inside is refused when it is looked up for the very connection, so that
/// nothing is gained by changing it in between.
#[derive(Clone, Default, Debug)]
pub struct Guard {
    named: Arc<BTreeSet<String>>,
}

impl Guard {
    /// A guard that lets these hosts be anywhere: `localhost`, `10.0.0.7`, `api.internal:8402` (at any port). What allows more
    /// than one host (`*.example.com`) names none.
    pub fn new<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        let named = hosts.into_iter().map(|host| without_port(&host.into().to_ascii_lowercase()).to_owned());
        Self { named: Arc::new(named.filter(|host| !host.contains('*')).collect()) }
    }

    /// The client to send through: it follows no redirects, since a payment is for the host that was asked.
    ///
    /// # Errors
    /// As [`reqwest::ClientBuilder::build`].
    pub fn client(&self) -> reqwest::Result<reqwest::Client> {
        let client =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).dns_resolver(Arc::new(self.clone()));
        client.connect_timeout(Duration::from_secs(10)).build()
    }

    /// Refuses an address inside that is written as such; names are looked at when they are looked up.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refusal> {
        let (ip, text) = match url.host() {
            Some(Host::Ipv4(ip)) => (IpAddr::V4(ip), ip.to_string()),
            Some(Host::Ipv6(ip)) => (IpAddr::V6(ip), format!("[{ip}]")),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if is_public(ip) || self.named.contains(&text) {
            return Ok(());
        }
        Err(Refusal::new(format!(
            "{text} is an address inside the owner's network, which is asked only if the owner has named it"
        )))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let may_be_inside = self.named.contains(&name.as_str().to_ascii_lowercase());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let kept: Vec<SocketAddr> =
                found.into_iter().filter(|address| may_be_inside || is_public(address.ip())).collect();
            if kept.is_empty() {
                let why = format!("{} is not on the public internet, and the owner has not named it", name.as_str());
                return Err(why.into());
            }
            let kept: Addrs = Box::new(kept.into_iter());
            Ok(kept)
        })
    }
}

/// The host of `host`, `host:port`, `[v6]` and `[v6]:port`; of an address of version 6 with its brackets.
fn without_port(host: &str) -> &str {
    match (host.rfind(']'), host.rfind(':')) {
        (Some(end), Some(colon)) if colon > end => host.get(..colon).unwrap_or(host),
        (None, Some(colon)) => host.get(..colon).unwrap_or(host),
        _ => host,
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // shared by a carrier's customers
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)); // benchmarks
    !is_special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = ip.segments();
    let [a, b] = seventh.to_be_bytes();
    let [c, d] = eighth.to_be_bytes();
    let last = Ipv4Addr::new(a, b, c, d);
    match (first, second) {
        // ::1, ::, and every address of version 4 that is written in version 6
        (0, 0) if third == 0 && fourth == 0 && fifth == 0 && (sixth == 0 || sixth == 0xffff) => {
            sixth == 0xffff && is_public_v4(last)
        }
        (0x64, 0xff9b) => third == 0 && is_public_v4(last), // translated to version 4
        (0x2002, _) => {
            let ([a, b], [c, d]) = (second.to_be_bytes(), third.to_be_bytes());
            is_public_v4(Ipv4Addr::new(a, b, c, d)) // tunnelled in version 4
        }
        (0x2001, 0xdb8) => false,                    // documentation
        (0x2001, second) if second < 0x200 => false, // protocols' own, and tunnels
        _ => first & 0xe000 == 0x2000,               // global unicast, as it is given out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, url: &str) -> bool {
        guard.check(&url.parse().unwrap()).is_ok()
    }

    #[test]
    fn given_an_address_inside_however_it_is_written_then_it_is_refused() {
        let guard = Guard::default();
        for inside in [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[fe80::1]",
            "[fd00::1]",
            "[ff02::1]",
            "[::127.0.0.1]",
            "[2001::1]",
        ] {
            assert!(!check(&guard, &format!("http://{inside}:8080/x")), "{inside} is let through");
        }
        for outside in ["93.184.216.34", "[2606:4700::1111]", "[::ffff:93.184.216.34]", "[64:ff9b::808:808]"] {
            assert!(check(&guard, &format!("https://{outside}/x")), "{outside} is refused");
        }
    }

    #[test]
    fn given_hosts_that_the_owner_has_named_then_they_may_be_inside_and_wildcards_may_not() {
        let guard = Guard::new(["127.0.0.1:8403", "[::1]:1", "LOCALHOST", "*.internal"]);
        assert!(check(&guard, "http://127.0.0.1:8403/") && check(&guard, "http://[::1]:9/"));
        assert!(!check(&guard, "http://127.0.0.2/"));
        assert!(guard.named.contains("localhost") && guard.named.len() == 3);
    }

    #[tokio::test]
    async fn given_a_name_that_leads_inside_when_it_is_looked_up_then_it_is_refused_unless_named() {
        let lookup =
            |guard: Guard| async move { guard.resolve("localhost".parse().unwrap()).await.map(Iterator::count) };
        let refused = lookup(Guard::default()).await.unwrap_err();
        assert!(refused.to_string().contains("not named"), "{refused}");
        assert!(lookup(Guard::new(["localhost"])).await.unwrap() > 0);
    }
}
