//! The URL of a database: what of it is ours, what is handed on, and what is refused.

use super::PostgresFailure;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// How long it takes at most to reach a server.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection on which nothing is heard is probed after so long,
const IDLE: Duration = Duration::from_secs(10);
/// so often,
const PROBE: Duration = Duration::from_secs(5);
/// and given up after so many.
const PROBES: u32 = 3;
/// What was sent and not acknowledged for so long is lost, and the connection with it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// What every session is set to. The server ends a session whose client is gone within half a minute, so that another can
/// have its place; and a statement or a transaction that hangs.
const SESSION: &str = "-c search_path=tallybook -c client_min_messages=warning -c default_transaction_read_only=off \
                       -c default_transaction_isolation=read\\ committed \
                       -c statement_timeout=20s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s \
                       -c idle_session_timeout=0 -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 \
                       -c tcp_keepalives_count=3 -c tcp_user_timeout=15s";

/// What may stand after the question mark, beside `sslmode` and `sslrootcert`.
const PARAMETERS: [&str; 7] = ["host", "port", "user", "password", "dbname", "options", "channel_binding"];

/// Where a PostgreSQL database is, and how it is reached: `postgres://USER@HOST/DATABASE`, as libpq reads it.
///
/// Of the parameters these are known: `host`, `port`, `user`, `password`, `dbname`, `options`, `channel_binding`,
/// `sslrootcert`, and `sslmode`:
///
/// * `require` and `verify-full` are the same here: the server's certificate must be issued by one of the authorities in the
///   file `sslrootcert` (without it, by one that Mozilla trusts), be valid now, and bear the host's name. (libpq's `require`
///   checks none of this.)
/// * `disable` sends everything in the clear.
/// * Without it, a socket and this machine itself are reached in the clear, every other host as with `verify-full`.
///
/// Neither `Debug` nor `Display` shows a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    pub(super) config: Config,
    pub(super) tls: Tls,
}

/// How the connection is protected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tls {
    /// It is not.
    Off,
    /// The server shows a certificate of an authority that Mozilla trusts.
    Public,
    /// The server shows a certificate of one of the authorities in this file.
    File(PathBuf),
}

impl PostgresUrl {
    /// Whether a text is meant as such a URL.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }
}

impl FromStr for PostgresUrl {
    type Err = PostgresFailure;

    fn from_str(text: &str) -> Result<Self, PostgresFailure> {
        if !Self::is_meant(text) {
            return Err(refused("write postgres://USER@HOST/DATABASE"));
        }
        let (place, parameters) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut authorities, mut rest) = (None, None, Vec::new());
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').ok_or_else(|| refused("a parameter has no value"))?;
            match key {
                "sslmode" => mode = Some(value),
                "sslrootcert" => authorities = Some(PathBuf::from(value.replace("%2F", "/"))),
                key if PARAMETERS.contains(&key) => rest.push(parameter),
                key => return Err(refused(&format!("the parameter `{key}` is not known here"))),
            }
        }
        // What the parser says may quote the text.
        let parsed = format!("{place}?{}", rest.join("&")).parse::<Config>();
        let mut config = parsed.map_err(|_| refused(
            "cannot be read: write postgres://USER@HOST/DATABASE, with `%40` for an @ and `%2F` for a / in a password",
        ))?;
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            return Err(refused("has two @: write `%40` for one in a password"));
        }
        if config.get_hosts().is_empty() {
            return Err(refused("names no host: for a socket write ?host=/var/run/postgresql"));
        }
        if config.get_dbname().is_none() || config.get_user().is_none() {
            return Err(refused("must name a user and a database: postgres://USER@HOST/DATABASE"));
        }
        let tls = Tls::of(mode, authorities, config.get_hosts())?;
        let options = config.get_options().map_or_else(|| SESSION.to_owned(), |own| format!("{own} {SESSION}"));
        config
            .options(options)
            .application_name(concat!("tallybook ", env!("CARGO_PKG_VERSION")))
            .target_session_attrs(TargetSessionAttrs::Any)
            .ssl_mode(if tls == Tls::Off { SslMode::Disable } else { SslMode::Require })
            .connect_timeout(CONNECT)
            .keepalives_idle(IDLE)
            .keepalives_interval(PROBE)
            .keepalives_retries(PROBES)
            .tcp_user_timeout(UNACKNOWLEDGED);
        Ok(Self { config, tls })
    }
}

impl Tls {
    fn of(mode: Option<&str>, authorities: Option<PathBuf>, hosts: &[Host]) -> Result<Self, PostgresFailure> {
        let checked = authorities.map_or(Self::Public, Self::File);
        match mode {
            Some("disable") => Ok(Self::Off),
            Some("require" | "verify-full") => Ok(checked),
            Some(_) => Err(refused("`sslmode` must be verify-full, require (the same here) or disable")),
            None if checked == Self::Public && hosts.iter().all(is_here) => Ok(Self::Off),
            None => Ok(checked),
        }
    }
}

/// Whether a host is this machine itself.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

fn refused(problem: &str) -> PostgresFailure {
    PostgresFailure::Url(problem.to_owned())
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}@", self.config.get_user().unwrap_or_default())?;
        for (number, host) in self.config.get_hosts().iter().enumerate() {
            let port = self.config.get_ports().get(number).or(self.config.get_ports().first());
            let between = if number == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{between}{name}:{}", port.copied().unwrap_or(5432))?,
                Host::Unix(path) => write!(f, "{between}{}", path.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(text: &str) -> Tls {
        text.parse::<PostgresUrl>().unwrap().tls
    }

    #[test]
    fn given_a_password_when_a_url_is_shown_or_refused_then_it_does_not_appear() {
        let url: PostgresUrl = "postgres://me:s3cret@db.example:5433/vouchers".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://me@db.example:5433/vouchers");
        assert!(!format!("{url:?}").contains("s3cret"));
        for wrong in [
            "postgres://me:s3@cret@db.example/vouchers",
            "postgres://me:s3cret@db.example/vouchers?sslmode=s3cret",
            "postgres://me:s3cret@db.example:no/vouchers",
            "postgres://me:s3cret@db.example",
            "postgres://db.example/vouchers",
            "postgres:///vouchers?user=me&password=s3cret",
            "postgres://me:s3cret@db.example/vouchers?sslcert=mine",
            "mysql://me:s3cret@db.example/vouchers",
        ] {
            let said = wrong.parse::<PostgresUrl>().expect_err(wrong).to_string();
            assert!(!said.contains("s3") && !said.contains("cret"), "{said}");
        }
    }

    #[test]
    fn given_a_host_when_no_sslmode_is_named_then_only_this_machine_is_reached_in_the_clear() {
        assert_eq!(tls("postgres://me@127.0.0.1/v"), Tls::Off);
        assert_eq!(tls("postgres://me@[::1]/v"), Tls::Off);
        assert_eq!(tls("postgres://me@localhost/v"), Tls::Off);
        assert_eq!(tls("postgres:///v?user=me&host=/run/postgresql"), Tls::Off);
        assert_eq!(tls("postgres://me@db.example/v"), Tls::Public);
        assert_eq!(tls("postgres://me@127.0.0.1,db.example/v"), Tls::Public);
        assert_eq!(tls("postgres://me@db.example/v?sslmode=disable"), Tls::Off);
        assert_eq!(tls("postgres://me@127.0.0.1/v?sslmode=require"), Tls::Public);
        assert_eq!(tls("postgres://me@127.0.0.1/v?sslrootcert=/ca.pem"), Tls::File("/ca.pem".into()));
        assert_eq!(tls("postgres://me@db/v?sslmode=verify-full&sslrootcert=/ca.pem"), Tls::File("/ca.pem".into()));
        assert!("postgres://me@db/v?sslmode=prefer".parse::<PostgresUrl>().is_err());
    }
}
