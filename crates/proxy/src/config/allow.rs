//! Who may connect, from where, and how he proves who he is: `[[allow]]` entries, of which the first that fits decides,
//! and `[[cert]]` entries, which say whose a certificate is.

use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// The password: by SCRAM-SHA-256, or by MD5 where the role's stored password is MD5's.
    Scram,
    /// A certificate that names the user.
    Cert,
    /// No proof: whoever reaches the listener is who he says.
    Trust,
    /// Not at all.
    Reject,
}

/// One `[[allow]]` entry. What is left out fits everybody.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowConfig {
    /// A user or several; `all`.
    #[serde(default)]
    pub user: Names,
    /// A database or several, without what stands behind @; `all`.
    #[serde(default)]
    pub database: Names,
    /// Addresses, as `10.0.0.0/8`, `::1`; `local` for Unix sockets; `all`.
    #[serde(default)]
    pub address: Addresses,
    /// How they prove who they are; when absent, as the setting `auth` says.
    pub method: Option<Auth>,
    /// `true`: only over TLS; `false`: only without; when absent, either.
    pub tls: Option<bool>,
}

/// One `[[cert]]` entry: whose a certificate is, beside the role of the same name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertConfig {
    /// The certificate's common name; one `*` stands for any text.
    pub name: String,
    /// The role.
    pub user: String,
}

/// A client as far as the list looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) user: &'a str,
    pub(crate) database: &'a str,
    /// `None` on a Unix socket.
    pub(crate) address: Option<IpAddr>,
    pub(crate) encrypted: bool,
}

impl AllowConfig {
    pub(super) fn fits(&self, caller: &Caller<'_>) -> bool {
        self.user.hold(caller.user)
            && self.database.hold(caller.database)
            && self.address.hold(caller.address)
            && self.tls.is_none_or(|tls| tls == caller.encrypted)
    }
}

impl CertConfig {
    pub(super) fn fits(&self, common_name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == common_name,
            Some((front, back)) => {
                common_name.len() >= front.len() + back.len()
                    && common_name.starts_with(front)
                    && common_name.ends_with(back)
            }
        }
    }
}

/// Some names, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Option<Vec<String>>);

impl Names {
    fn hold(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.iter().any(|one| one == name))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names = OneOrMore::deserialize(from)?.into_vec();
        Ok(Self(if names.iter().any(|name| name == "all") { None } else { Some(names) }))
    }
}

/// Some addresses, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(Option<Vec<Block>>);

impl Addresses {
    fn hold(&self, address: Option<IpAddr>) -> bool {
        self.0.as_ref().is_none_or(|blocks| blocks.iter().any(|block| block.holds(address)))
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = OneOrMore::deserialize(from)?.into_vec();
        if words.iter().any(|word| word == "all") {
            return Ok(Self(None));
        }
        words
            .iter()
            .map(|word| word.parse().map_err(de::Error::custom))
            .collect::<Result<_, _>>()
            .map(|it| Self(Some(it)))
    }
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Local,
    Net(IpAddr, u32),
}

impl Block {
    fn holds(self, address: Option<IpAddr>) -> bool {
        match (self, address.map(|address| address.to_canonical())) {
            (Self::Local, address) => address.is_none(),
            (Self::Net(IpAddr::V4(net), bits), Some(IpAddr::V4(address))) => {
                (net.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (Self::Net(IpAddr::V6(net), bits), Some(IpAddr::V6(address))) => {
                (net.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            (Self::Net(..), _) => false,
        }
    }
}

impl FromStr for Block {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "local" {
            return Ok(Self::Local);
        }
        let wrong = || anyhow::anyhow!("{text:?} is neither an address such as 10.0.0.0/8 or ::1, nor local, nor all");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), str::parse).ok().filter(|bits| *bits <= all).ok_or_else(wrong)?;
        Ok(Self::Net(address, bits))
    }
}

/// A text, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(word) => vec![word],
            Self::More(words) => words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const LIST: &str = r#"
auth = "scram"
[[allow]]
user = "intruder"
method = "reject"
[[allow]]
user = ["app", "job"]
database = "shop"
address = ["10.1.0.0/16", "fd00::/8"]
tls = true
[[allow]]
address = "local"
method = "trust"
"#;

    fn method(user: &str, database: &str, address: Option<&str>, encrypted: bool) -> Option<Auth> {
        let config = Config::from_toml(LIST).expect("valid");
        let address = address.map(|address| address.parse().expect("an address"));
        config.method(&Caller { user, database, address, encrypted })
    }

    #[test]
    fn the_first_entry_that_fits_decides() {
        assert_eq!(method("intruder", "shop", None, false), Some(Auth::Reject));
        assert_eq!(method("app", "shop", Some("10.1.200.3"), true), Some(Auth::Scram));
        assert_eq!(method("app", "shop", Some("::ffff:10.1.200.3"), true), Some(Auth::Scram), "IPv4 in IPv6");
        assert_eq!(method("job", "shop", Some("fd12::1"), true), Some(Auth::Scram));
        assert_eq!(method("app", "shop", Some("10.1.200.3"), false), None, "TLS is asked for");
        assert_eq!(method("app", "shop", Some("10.2.0.1"), true), None);
        assert_eq!(method("app", "blog", Some("10.1.0.1"), true), None);
        assert_eq!(method("ann", "blog", None, false), Some(Auth::Trust));
    }

    #[test]
    fn without_a_list_everybody_may_try() {
        let caller = Caller { user: "ann", database: "d", address: None, encrypted: false };
        assert_eq!(Config::default().method(&caller), Some(Auth::Scram));
    }

    #[test]
    fn blocks_end_where_they_say() {
        let holds = |block: &str, address: &str| {
            let block: Block = block.parse().expect(block);
            block.holds(Some(address.parse().expect(address)))
        };
        assert!(holds("0.0.0.0/0", "1.2.3.4") && holds("1.2.3.4", "1.2.3.4") && holds("::/0", "::1"));
        assert!(!holds("1.2.3.4/32", "1.2.3.5") && !holds("10.0.0.0/9", "10.128.0.0") && !holds("::/0", "1.2.3.4"));
        for bad in ["10.0.0.0/33", "::/129", "10.0.0", "db.example.org", "10.0.0.0/", ""] {
            bad.parse::<Block>().expect_err(bad);
        }
    }

    #[test]
    fn complaints_name_line_and_key() {
        for (text, words) in [
            ("[[allow]]\nadress = \"local\"", ["line 2", "adress"]),
            ("[[allow]]\nuser = \"a\"\naddress = [\"10.0.0.0/40\"]", ["line 3", "10.0.0.0/40"]),
            ("[[allow]]\nmethod = \"ident\"", ["line 2", "ident"]),
            ("[[cert]]\nname = \"x\"", ["line 1", "user"]),
        ] {
            let complaint = Config::from_toml(text).expect_err(text).to_string();
            assert!(words.iter().all(|word| complaint.contains(word)), "{complaint}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let fits = |pattern: &str, name: &str| CertConfig { name: pattern.into(), user: "u".into() }.fits(name);
        assert!(fits("ann", "ann") && !fits("ann", "anna"));
        assert!(fits("*@example.org", "ann@example.org") && fits("svc-*-prod", "svc-a-prod"));
        assert!(!fits("svc-*-prod", "svc-prod"), "both ends must be there");
    }
}
