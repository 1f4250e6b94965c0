//! Where a resource is: one spelling of its URL, and whether anybody could reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tallybook_wire::{Unlisted, UnlistedReason};
use url::{Host, Url};

/// The longest URL that is read, and the longest that is listed, in bytes.
const MAX_URL_BYTES: usize = 2_048;
const MAX_LISTED_BYTES: usize = 1_024;
/// Names that only some resolve, or resolve to themselves.
const PRIVATE_SUFFIXES: [&str; 7] = ["localhost", "local", "internal", "home.arpa", "lan", "test", "invalid"];

/// The one spelling of a resource's URL: without query and fragment, its path in the place of `template` if it has one.
///
/// [`UnlistedReason::BadUrl`], [`UnlistedReason::PrivateAddress`] unless those are listed too.
pub(crate) fn place(text: &str, template: Option<&str>, private_too: bool) -> Result<String, Unlisted> {
    let url = readable(text).ok_or(UnlistedReason::BadUrl)?;
    if !private_too && !is_public(&url) {
        return Err(UnlistedReason::PrivateAddress.into());
    }
    let origin = url.origin().ascii_serialization();
    let listed = format!("{origin}{}", template.unwrap_or(url.path()));
    if listed.len() > MAX_LISTED_BYTES { Err(UnlistedReason::BadUrl.into()) } else { Ok(listed) }
}

/// An http(s) URL with a host, without a user.
fn readable(text: &str) -> Option<Url> {
    let is_plain = text.len() <= MAX_URL_BYTES && !text.chars().any(char::is_control);
    let mut url = Url::parse(text).ok().filter(|_| is_plain)?;
    let is_one = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    // A name with the root's dot is the same name.
    let name = url.host_str()?.strip_suffix('.').map(str::to_owned);
    if let Some(name) = name {
        url.set_host(Some(&name)).ok()?;
    }
    Some(url).filter(|_| is_one)
}

fn is_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let is_private =
                |suffix: &&str| name == *suffix || name.strip_suffix(*suffix).is_some_and(|rest| rest.ends_with('.'));
            name.contains('.') && !PRIVATE_SUFFIXES.iter().any(is_private)
        }
        Some(Host::Ipv4(address)) => is_public_v4(address),
        Some(Host::Ipv6(address)) => is_public_v6(address),
        None => false,
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || first == 0
        || first >= 240
        || (first == 100 && (64..128).contains(&second))
        || (first == 192 && second == 0 && third == 0)
        || (first == 198 && (18..20).contains(&second));
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let IpAddr::V4(inner) = address.to_canonical() {
        return is_public_v4(inner);
    }
    // 2000::/3 is what is given out to the public; of it, 2001:db8::/32 is for documentation, 2002::/16 and 64:ff9b::/96 carry
    // addresses of version 4.
    let [first, second, ..] = address.segments();
    (0x2000..0x4000).contains(&first) && first != 0x2002 && !(first == 0x2001 && second == 0xdb8)
}

/// Whether the URL of a picture is shown to people: by x402's rules an http(s) URL of a name, without a user.
pub(crate) fn is_icon(text: &str) -> bool {
    readable(text).is_some_and(|url| match url.host() {
        Some(Host::Domain(name)) => {
            !["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"].contains(&name)
        }
        Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => false,
    })
}

/// Whether a listed URL, which may have `:name` in its path, is that of `url`.
pub(crate) fn covers(listed: &str, url: &str) -> bool {
    if listed == url {
        return true;
    }
    // Scheme, nothing and host come first; a port's colon stands in none of the parts of a path.
    let (template, concrete) = (listed.split('/'), url.split('/'));
    listed.split('/').count() == url.split('/').count()
        && template
            .zip(concrete)
            .enumerate()
            .all(|(at, (name, part))| name == part || (at > 2 && name.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> Result<String, UnlistedReason> {
        place(text, None, false).map_err(|unlisted| unlisted.reason)
    }

    #[test]
    fn given_a_url_when_it_is_listed_then_it_has_one_spelling_without_query_and_secrets() {
        for (text, listed) in [
            ("https://API.Example.com/weather?city=Lisbon&key=secret#x", "https://api.example.com/weather"),
            ("https://api.example.com:443", "https://api.example.com/"),
            ("http://api.example.com:8080/a/../b/./c", "http://api.example.com:8080/b/c"),
            ("https://api.example.com./x", "https://api.example.com/x"),
            ("https://bücher.example.com/ä", "https://xn--bcher-kva.example.com/%C3%A4"),
            ("https://1.1.1.1/x", "https://1.1.1.1/x"),
            ("https://[2606:4700::1111]/x", "https://[2606:4700::1111]/x"),
        ] {
            assert_eq!(public(text).as_deref(), Ok(listed), "{text}");
        }
        let template = place("https://a.example.com/users/7?x=1", Some("/users/:id"), false).unwrap();
        assert_eq!(template, "https://a.example.com/users/:id");
    }

    #[test]
    fn given_a_url_that_nobody_should_ask_when_it_is_looked_at_then_it_is_refused() {
        for text in [
            "",
            "weather",
            "ftp://a.example.com/",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "mcp://tool/x",
            "https://user@a.example.com/",
            "https://user:secret@a.example.com/",
            "https://",
            "data:text/plain,x",
            "https://a.example.com/\n",
        ] {
            assert_eq!(public(text), Err(UnlistedReason::BadUrl), "{text}");
        }
        assert_eq!(public(&format!("https://a.example.com/{}", "a".repeat(1_100))), Err(UnlistedReason::BadUrl));
        assert_eq!(public(&format!("https://a.example.com/?{}", "a".repeat(3_000))), Err(UnlistedReason::BadUrl));
    }

    #[test]
    fn given_an_address_that_others_cannot_reach_however_it_is_written_then_it_is_private() {
        for text in [
            "http://localhost:3000/",
            "http://a.localhost/",
            "http://LOCALHOST./",
            "http://intranet/",
            "http://db.internal/",
            "http://printer.local/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://10.1.2.3/",
            "http://192.168.1.1/",
            "http://172.16.0.1/",
            "http://169.254.169.254/meta",
            "http://100.64.0.1/",
            "http://0.0.0.0/",
            "http://198.18.0.1/",
            "http://240.0.0.1/",
            "http://[::1]/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://%6c%6fcalhost/",
        ] {
            assert_eq!(public(text), Err(UnlistedReason::PrivateAddress), "{text}");
            assert!(place(text, None, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn given_a_picture_when_it_is_looked_at_then_only_a_url_of_a_name_is_one() {
        assert!(is_icon("https://api.example.com/icon.png"));
        for bad in [
            "",
            "icon.png",
            "data:image/png;base64,xx",
            "https://user@a.example.com/",
            "https://127.0.0.1/i.png",
            "https://localhost/i",
            "https://loc%61lhost/i",
            "https://2130706433/i",
            "https://[::1]/i",
            "https://0x7f000001/i",
        ] {
            assert!(!is_icon(bad), "{bad}");
        }
    }

    #[test]
    fn given_a_template_when_a_url_is_looked_for_then_it_covers_those_of_its_form_alone() {
        let listed = "https://a.example.com:8443/users/:id/posts";
        assert!(covers(listed, "https://a.example.com:8443/users/7/posts"));
        for other in [
            "https://a.example.com:8443/users/7",
            "https://b.example.com:8443/users/7/posts",
            "https://a.example.com/users/7/posts",
            "http://a.example.com:8443/users/7/posts",
        ] {
            assert!(!covers(listed, other), "{other}");
        }
    }
}
