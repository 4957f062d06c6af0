//! Who opens a connection to whom and on what: as options, or as words in this order.

use crate::error::Error;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Between {
    /// Who opens it: a tier, an address, a prefix, a host name, or self
    #[arg(value_name = "FROM", conflicts_with = "from")]
    from_word: Option<String>,

    /// To whom
    #[arg(value_name = "TO", conflicts_with = "to")]
    to_word: Option<String>,

    /// On what: tcp/443, udp/1000-2000, gre, icmp (an echo request), or a service by its name
    #[arg(value_name = "SERVICE", conflicts_with = "service")]
    service_word: Option<String>,

    /// The same as the word FROM
    #[arg(long, value_name = "WHO")]
    from: Option<String>,

    /// The same as the word TO
    #[arg(long, value_name = "WHO")]
    to: Option<String>,

    /// The same as the word SERVICE
    #[arg(long)]
    service: Option<String>,
}

impl Between {
    pub(crate) fn from(&self) -> Option<&str> {
        self.from.as_deref().or(self.from_word.as_deref())
    }

    pub(crate) fn to(&self) -> Option<&str> {
        self.to.as_deref().or(self.to_word.as_deref())
    }

    pub(crate) fn service(&self) -> Option<&str> {
        self.service.as_deref().or(self.service_word.as_deref())
    }

    /// All three.
    ///
    /// # Errors
    /// If one is missing.
    pub(crate) fn whole(&self) -> Result<[&str; 3], Error> {
        match (self.from(), self.to(), self.service()) {
            (Some(from), Some(to), Some(service)) => Ok([from, to, service]),
            (None, ..) => Err(missing("who opens the connection")),
            (_, None, _) => Err(missing("to whom")),
            (.., None) => Err(missing("on what service")),
        }
    }
}

fn missing(what: &str) -> Error {
    let usage =
        "Usage: tierwall explain FROM TO SERVICE, such as `tierwall explain web app tcp/443`";
    Error::Usage(format!("nothing says {what}\n\n{usage}"))
}
