//! What a rule does with a packet besides asking: limits, logs, refusals, sets that it fills.

use super::{Fields, RuleReader, number, offset};
use crate::attribute::Attribute;
use crate::listing::field::Loaded;
use crate::uapi::*;
use ruleset::Family;
use ruleset::listing::{
    Refusal, Selector, Step, duration_words, limit_words, log_words, size_words,
};

const NFTA_DYNSET_SET_NAME: u16 = 1;
const NFTA_DYNSET_OP: u16 = 3;
const NFTA_DYNSET_SREG_KEY: u16 = 4;
const NFTA_DYNSET_TIMEOUT: u16 = 6;
const NFTA_DYNSET_EXPR: u16 = 7;
const NFTA_DYNSET_EXPRESSIONS: u16 = 10;
const NFTA_CONNLIMIT_COUNT: u16 = 1;
const NFTA_CONNLIMIT_FLAGS: u16 = 2;
const NFTA_QUOTA_BYTES: u16 = 1;
const NFTA_QUOTA_FLAGS: u16 = 2;
/// Of `ct count` and `quota`: over it.
const INVERTED: u32 = 1;
const NFT_LIMIT_F_INV: u32 = 1;
const NFT_LIMIT_PKT_BYTES: u32 = 1;

impl RuleReader<'_> {
    /// `meta mark set 0x00000007`
    pub(super) fn set(&mut self, target: &Loaded, fields: &Fields<'_>, source: u16) -> Option<()> {
        let at = offset(number(fields, source)?)?;
        let value = match (self.registers.get(&at), self.constants.get(&at)) {
            (Some(loaded), _) => loaded.selector.to_string(),
            (None, bytes) => target.selector.domain().text(&target.value(bytes?)),
        };
        self.steps.push(Step::Other(format!("{} set {value}", target.selector)));
        Some(())
    }

    /// `ct count over 5`
    pub(super) fn count(&mut self, fields: &Fields<'_>) -> Option<()> {
        let count = number(fields, NFTA_CONNLIMIT_COUNT)?.to_string();
        self.bound("ct count", fields, NFTA_CONNLIMIT_FLAGS, &count)
    }

    /// `quota over 10 mbytes`
    pub(super) fn quota(&mut self, fields: &Fields<'_>) -> Option<()> {
        let bytes = fields.get(NFTA_QUOTA_BYTES)?.u64().ok()?;
        self.bound("quota", fields, NFTA_QUOTA_FLAGS, &size_words(bytes))
    }

    fn bound(&mut self, what: &str, fields: &Fields<'_>, flags: u16, value: &str) -> Option<()> {
        let is_over = fields.u32_or_zero(flags).ok()? & INVERTED != 0;
        let over = if is_over { "over " } else { "" };
        self.steps.push(Step::Other(format!("{what} {over}{value}")));
        Some(())
    }

    /// `add @set { ip saddr limit rate over 10/minute }`
    pub(super) fn update(&mut self, fields: &Fields<'_>) -> Option<()> {
        let name = fields.get(NFTA_DYNSET_SET_NAME)?.text();
        self.fills.push(name.clone());
        let verb = *["add", "update", "delete"].get(number(fields, NFTA_DYNSET_OP)? as usize)?;
        let at = offset(number(fields, NFTA_DYNSET_SREG_KEY)?)?;
        let keys = self.concatenated(at, self.sets.get(&name)?)?;
        let keys: Vec<Selector> = keys.into_iter().map(|key| key.selector).collect();
        let mut text = keys.iter().map(Selector::to_string).collect::<Vec<_>>().join(" . ");
        self.told.extend(keys);
        let timeout = fields.get(NFTA_DYNSET_TIMEOUT).and_then(|field| field.u64().ok());
        if let Some(timeout) = timeout.filter(|timeout| *timeout > 0) {
            text += &format!(" timeout {}", duration_words(timeout));
        }
        let mut inner = Self::new(&self.table, self.sets);
        if let Some(expression) = fields.get(NFTA_DYNSET_EXPR) {
            inner.expression(expression).ok()?;
        }
        let several = fields.get(NFTA_DYNSET_EXPRESSIONS);
        for expression in several.into_iter().flat_map(|list| list.nested()) {
            inner.expression(expression.ok()?).ok()?;
        }
        for step in inner.steps {
            text += &format!(" {step}");
        }
        self.steps.push(Step::Other(format!("{verb} @{name} {{ {text} }}")));
        Some(())
    }

    pub(super) fn log(&mut self, fields: &Fields<'_>) -> Option<()> {
        const LEVELS: [&str; 9] =
            ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"];
        const FLAGS: [(u32, &str); 5] = [
            (1, "tcp sequence"),
            (2, "tcp options"),
            (4, "ip options"),
            (8, "skuid"),
            (32, "ether"),
        ];
        const WARN: u32 = 4;
        let prefix = fields.get(NFTA_LOG_PREFIX).map(Attribute::text);
        let mut options = Vec::new();
        let mut add =
            |name, value: Option<String>| options.extend(value.map(|value| (name, value)));
        add("group", fields.get(NFTA_LOG_GROUP).and_then(|g| Some(g.u16().ok()?.to_string())));
        add("snaplen", number(fields, NFTA_LOG_SNAPLEN).map(|length| length.to_string()));
        let threshold = fields.get(NFTA_LOG_QTHRESHOLD);
        add("queue-threshold", threshold.and_then(|field| Some(field.u16().ok()?.to_string())));
        let level = number(fields, NFTA_LOG_LEVEL).filter(|level| *level != WARN);
        add("level", level.and_then(|level| Some((*LEVELS.get(level as usize)?).to_owned())));
        let flags = fields.u32_or_zero(NFTA_LOG_FLAGS).ok()?;
        let set: Vec<&str> =
            FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect();
        match set.len() {
            0 => {}
            5 => add("flags", Some("all".to_owned())),
            _ => log_flags(&set).into_iter().for_each(|flag| add("flags", Some(flag))),
        }
        self.steps.push(Step::Log(log_words(prefix.as_deref(), &options)));
        Some(())
    }

    pub(super) fn limit(&mut self, fields: &Fields<'_>) -> Option<()> {
        let long = |kind| fields.get(kind)?.u64().ok();
        let (rate, seconds) = (long(NFTA_LIMIT_RATE)?, long(NFTA_LIMIT_UNIT)?);
        let is_over = fields.u32_or_zero(NFTA_LIMIT_FLAGS).ok()? & NFT_LIMIT_F_INV != 0;
        let is_bytes = fields.u32_or_zero(NFTA_LIMIT_TYPE).ok()? == NFT_LIMIT_PKT_BYTES;
        let burst = fields.get(NFTA_LIMIT_BURST).and_then(|burst| burst.u32().ok()).unwrap_or(0);
        let unit = match seconds {
            1 => "second".to_owned(),
            60 => "minute".to_owned(),
            3600 => "hour".to_owned(),
            86_400 => "day".to_owned(),
            604_800 => "week".to_owned(),
            seconds => format!("{seconds} seconds"),
        };
        let text = limit_words(is_over, is_bytes, rate, &unit, burst.into());
        self.steps.push(Step::Limit(text));
        Some(())
    }

    pub(super) fn reject(&mut self, fields: &Fields<'_>) -> Option<()> {
        const ICMP: [(u8, &str); 7] = [
            (0, "net-unreachable"),
            (1, "host-unreachable"),
            (2, "prot-unreachable"),
            (3, "port-unreachable"),
            (9, "net-prohibited"),
            (10, "host-prohibited"),
            (13, "admin-prohibited"),
        ];
        const ICMPV6: [(u8, &str); 6] = [
            (0, "no-route"),
            (1, "admin-prohibited"),
            (3, "addr-unreachable"),
            (4, "port-unreachable"),
            (5, "policy-fail"),
            (6, "reject-route"),
        ];
        const ICMPX: [(u8, &str); 4] = [
            (0, "no-route"),
            (1, "port-unreachable"),
            (2, "host-unreachable"),
            (3, "admin-prohibited"),
        ];
        let code = fields.get(NFTA_REJECT_ICMP_CODE).and_then(|code| code.u8().ok()).unwrap_or(0);
        let (kind, codes, family): (_, &[(u8, &str)], _) = match number(fields, NFTA_REJECT_TYPE)? {
            NFT_REJECT_TCP_RST => ("tcp reset", &[], None),
            NFT_REJECT_ICMPX_UNREACH => ("icmpx", &ICMPX, None),
            _ => match self.known.family {
                Some(Family::V6) => ("icmpv6", &ICMPV6, Some(Family::V6)),
                family => ("icmp", &ICMP, family),
            },
        };
        let code = codes.iter().find(|(number, _)| *number == code).map_or("", |(_, word)| word);
        let how = format!("{kind} {code}").trim_end().to_owned();
        self.steps.push(Step::Reject(Refusal { family, how }.in_table(&self.table)));
        Some(())
    }
}

/// The flags of a log as `nft` groups them: both of TCP are one.
fn log_flags(flags: &[&str]) -> Vec<String> {
    match flags {
        ["tcp sequence", "tcp options", rest @ ..] => std::iter::once("tcp sequence,options")
            .chain(rest.iter().copied())
            .map(str::to_owned)
            .collect(),
        flags => flags.iter().map(|flag| (*flag).to_owned()).collect(),
    }
}
