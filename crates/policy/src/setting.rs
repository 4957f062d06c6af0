//! The settings: keys at the top of the policy file, each with a few words to choose from.

use crate::confirm::ConfirmTime;
use crate::diagnostic::Diagnostic;
use crate::document::{ALLOW, List, Reader, SETTINGS, SHARED, Text};
use crate::metrics_table::MetricsSetting;
use crate::model::{Boot, Deny, DenyAction, Forward, Mode, Modes, Ownership, Watch};
use crate::name;
use crate::quoting::quote;
use crate::syntax::Value;
use std::num::NonZeroU32;
use toml::de::{DeTable, DeValue};

/// `role`, still text, since it names tiers.
#[derive(Debug)]
pub(crate) enum RoleText {
    /// A tier or several, or `auto`.
    Names(List<Text>),
    /// `{ auto = "any" }`
    AutoAny,
    /// `{ file = "…" }`
    File(Text),
}

/// The settings of a policy file.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// None where the file doesn't say, or says what is no role.
    pub(crate) role: Option<RoleText>,
    pub(crate) watch: Watch,
    pub(crate) boot: Boot,
    pub(crate) deny: Deny,
    pub(crate) mode: Modes,
    pub(crate) forward: Forward,
    pub(crate) ownership: Ownership,
    pub(crate) kernel_log: bool,
    /// Still text, since it may name services; none where the file doesn't say.
    pub(crate) guarded: Option<List<Text>>,
    pub(crate) rollback_on_denials: Option<NonZeroU32>,
    pub(crate) confirm: Option<ConfirmTime>,
    pub(crate) metrics: MetricsSetting,
}

const WATCH: [(&str, Watch); 2] = [("members", Watch::Members), ("all", Watch::All)];
const BOOT: [(&str, Boot); 2] = [("open", Boot::Open), ("closed", Boot::Closed)];
const DENY: [(&str, DenyAction); 2] = [("drop", DenyAction::Drop), ("reject", DenyAction::Reject)];
const MODE: [(&str, Mode); 3] =
    [("enforce", Mode::Enforce), ("observe", Mode::Observe), ("off", Mode::Off)];
const FORWARD: [(&str, Forward); 3] =
    [("drop", Forward::Drop), ("accept", Forward::Accept), ("unmanaged", Forward::Unmanaged)];
const OWNERSHIP: [(&str, Ownership); 3] = [
    ("exclusive", Ownership::Exclusive),
    ("repair", Ownership::Repair),
    ("report", Ownership::Report),
];

impl Reader<'_> {
    /// The settings of the policy file.
    pub(crate) fn settings(&mut self, table: &DeTable<'_>) -> Settings {
        let known: Vec<&str> = SETTINGS.into_iter().chain(SHARED).collect();
        self.unknown_keys(table, &known, |key| {
            ALLOW.contains(&key).then(|| format!("{} belongs below an [[allow]]", quote(key)))
        });
        let mut settings = Settings::default();
        if let Some(role) = table.get("role") {
            settings.role = self.role(role);
        }
        if let Some(value) = table.get("watch") {
            settings.watch = self.choice("watch", value, &WATCH).unwrap_or_default();
        }
        if let Some(value) = table.get("boot") {
            settings.boot = self.choice("boot", value, &BOOT).unwrap_or_default();
        }
        if let Some(value) = table.get("forward") {
            settings.forward = self.choice("forward", value, &FORWARD).unwrap_or_default();
        }
        if let Some(value) = table.get("ownership") {
            settings.ownership = self.choice("ownership", value, &OWNERSHIP).unwrap_or_default();
        }
        if let Some(value) = table.get("confirm") {
            settings.confirm = self.confirm(value);
        }
        if let Some(value) = table.get("kernel_log") {
            settings.kernel_log = self.switch("kernel_log", value);
        }
        if let Some(value) = table.get("guard") {
            self.guard(value, &mut settings);
        }
        if let Some(value) = table.get("metrics") {
            settings.metrics = self.metrics(value);
        }
        if let Some(value) = table.get("deny") {
            let default = settings.deny;
            let (input, output) = self.sides("deny", value, &DENY);
            settings.deny = Deny {
                input: input.unwrap_or(default.input),
                output: output.unwrap_or(default.output),
            };
        }
        if let Some(value) = table.get("mode") {
            let (input, output) = self.sides("mode", value, &MODE);
            settings.mode =
                Modes { input: input.unwrap_or_default(), output: output.unwrap_or_default() };
        }
        settings
    }

    /// `confirm`: a time such as `"60s"`.
    fn confirm(&mut self, value: &Value<'_>) -> Option<ConfirmTime> {
        let DeValue::String(text) = value.get_ref() else {
            let hint = "write confirm = \"60s\"; without the line no change waits to be confirmed";
            self.mistyped("confirm", value, "a time in quotes", hint);
            return None;
        };
        let time = text.parse();
        if time.is_err() {
            let message = format!("`confirm` can't be {}", quote(text));
            let hint = "a time from 5s to 1h, such as \"60s\" or \"2m\"".to_owned();
            let place = self.place(value.span()).label();
            self.diagnostics.push(Diagnostic::error("bad-setting", place, message).hint(hint));
        }
        time.ok()
    }

    /// `[guard]`: the services by which this server is administered, and when a change that waits
    /// to be confirmed is gone back from before its time.
    fn guard(&mut self, value: &Value<'_>, settings: &mut Settings) {
        let DeValue::Table(table) = value.get_ref() else {
            let hint = "write [guard], and below it services = [\"tcp/22\"]";
            self.mistyped("guard", value, "a table", hint);
            return;
        };
        self.unknown_keys(table, &["services", "rollback_on_denials"], |key| match key {
            "service" => Some("did you mean `services`?".into()),
            "rollback" | "denials" | "rollback_on_denial" => {
                Some("did you mean `rollback_on_denials`?".into())
            }
            _ => None,
        });
        settings.guarded = table.get("services").map(|services| self.texts("services", services));
        if let Some(value) = table.get("rollback_on_denials") {
            settings.rollback_on_denials = self.rollback_on_denials(value);
        }
    }

    /// A number of connections, or `"off"`.
    fn rollback_on_denials(&mut self, value: &Value<'_>) -> Option<NonZeroU32> {
        const HINT: &str = "write a number of connections such as 20, or \"off\"";
        let number = match value.get_ref() {
            DeValue::String(text) if text == "off" => return None,
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()),
            _ => {
                self.mistyped("rollback_on_denials", value, "a number or \"off\"", HINT);
                return None;
            }
        };
        let number = number.ok().and_then(NonZeroU32::new);
        if number.is_none() {
            let message = "`rollback_on_denials` lies between 1 and 4,294,967,295";
            let place = self.place(value.span()).label();
            let diagnostic = Diagnostic::error("bad-setting", place, message);
            self.diagnostics.push(diagnostic.hint(HINT.to_owned()));
        }
        number
    }

    /// Refuses settings in an included file.
    pub(crate) fn no_settings(&mut self, table: &DeTable<'_>, policy: &str) {
        self.unknown_keys(table, &SHARED, |key| {
            SETTINGS.contains(&key).then(|| {
                format!(
                    "settings belong in {policy}; included files hold tiers, services and allows"
                )
            })
        });
    }

    fn role(&mut self, value: &Value<'_>) -> Option<RoleText> {
        if let DeValue::Table(table) = value.get_ref() {
            return self.role_table(value, table);
        }
        let role = self.texts("role", value);
        if role.is_empty() {
            let place = role.place.label();
            let diagnostic = Diagnostic::error("empty-list", place, "`role` names no tier")
                .hint("name the tier of this server, or write role = \"auto\"".to_owned());
            self.diagnostics.push(diagnostic);
        }
        Some(RoleText::Names(role))
    }

    /// `{ file = "…" }` or `{ auto = "any" }`.
    fn role_table(&mut self, value: &Value<'_>, table: &DeTable<'_>) -> Option<RoleText> {
        const FORMS: &str = "write { file = \"/etc/tierwall/role\" } or { auto = \"any\" }";
        self.unknown_keys(table, &["file", "auto"], |_| Some(FORMS.into()));
        match (table.get("file"), table.get("auto")) {
            (Some(file), None) => {
                let DeValue::String(name) = file.get_ref() else {
                    self.mistyped("file", file, "a file name in quotes", "");
                    return None;
                };
                Some(RoleText::File(self.text_at(name, file)))
            }
            (None, Some(auto)) => {
                self.choice("role.auto", auto, &[("any", ())]).map(|()| RoleText::AutoAny)
            }
            (None, None) if !table.is_empty() => None,
            (Some(_), Some(auto)) => {
                let message = "`role` follows from a file or from addresses, not from both";
                let place = self.place(auto.span()).label();
                let diagnostic = Diagnostic::error("bad-setting", place, message);
                self.diagnostics.push(diagnostic.hint(FORMS.to_owned()));
                None
            }
            (None, None) => {
                let hint = format!("{FORMS}, or name tiers: role = [\"web\"]");
                self.mistyped("role", value, "a tier, a list of tiers or one of two forms", &hint);
                None
            }
        }
    }

    /// `true` or `false`; false where it is neither.
    fn switch(&mut self, what: &str, value: &Value<'_>) -> bool {
        let DeValue::Boolean(on) = value.get_ref() else {
            self.mistyped(what, value, "true or false", "");
            return false;
        };
        *on
    }

    /// One of a few words.
    fn choice<T: Copy>(
        &mut self,
        what: &str,
        value: &Value<'_>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let DeValue::String(text) = value.get_ref() else {
            let wanted: Vec<String> = words().map(|word| format!("\"{word}\"")).collect();
            self.mistyped(what, value, &wanted.join(" or "), "");
            return None;
        };
        let found = choices.iter().find(|(word, _)| word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let message = format!("{} can't be {}", quote(what), quote(text));
            let hint = name::suggest(text, words(), "possible values");
            let place = self.place(value.span()).label();
            self.diagnostics.push(Diagnostic::error("bad-setting", place, message).hint(hint));
        }
        found
    }

    /// One word for both sides, or `{ input = …, output = … }`.
    fn sides<T: Copy>(
        &mut self,
        what: &str,
        value: &Value<'_>,
        choices: &[(&str, T)],
    ) -> (Option<T>, Option<T>) {
        let DeValue::Table(table) = value.get_ref() else {
            let both = self.choice(what, value, choices);
            return (both, both);
        };
        self.unknown_keys(table, &["input", "output"], |key| {
            (key == "forward")
                .then(|| "forward has a setting of its own: forward = \"drop\"".into())
        });
        let mut side = |key: &str| {
            let value = table.get(key)?;
            self.choice(&format!("{what}.{key}"), value, choices)
        };
        (side("input"), side("output"))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, load_text};
    use std::path::Path;

    /// What `rollback_on_denials = …` comes to; none where that is an error.
    fn rollback_on_denials(value: &str) -> Option<Option<u32>> {
        let text = format!(
            "role = \"web\"\n[tiers]\nweb = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"any\"\nto = \"web\"\n\
             service = \"tcp/80\"\n[guard]\nrollback_on_denials = {value}\n"
        );
        let loaded = load_text(Path::new("t.toml"), text, &Options::default());
        loaded.policy.map(|policy| policy.rollback_on_denials.map(u32::from))
    }

    #[test]
    fn a_number_of_connections_or_off() {
        for (value, wanted) in
            [("1", 1), ("1_000", 1000), ("4294967295", u32::MAX), ("+7", 7), ("0x1_0", 16)]
        {
            assert_eq!(rollback_on_denials(value), Some(Some(wanted)), "{value}");
        }
        assert_eq!(rollback_on_denials("\"off\""), Some(None));
        for value in ["0", "-1", "4294967296", "\"on\"", "\"5\"", "true", "0x0", "1.5", "[1]"] {
            assert_eq!(rollback_on_denials(value), None, "{value}");
        }
    }
}
