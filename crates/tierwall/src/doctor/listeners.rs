//! Who is told of every change of nf_tables: telling costs, by the element.

use super::facts::Listener;
use super::finding::{Finding, Id};

pub(super) fn check(listeners: &[Listener]) -> Option<Finding> {
    let names: Vec<String> = listeners
        .iter()
        .map(|listener| match &listener.process {
            Some((name, id)) => format!("{name} ({id})"),
            None => "a process that can't be found out".to_owned(),
        })
        .collect();
    let finding = match names.as_slice() {
        [] => return None,
        [one] => format!("{one} listens to every change of nf_tables"),
        several => format!("{} listen to every change of nf_tables", several.join(", ")),
    };
    Some(
        Finding::note(Id::Listener, finding)
            .detail("the kernel makes a message of each element of a change for it: large changes take many times as long")
            .advice("end it if nobody needs it: `nft monitor` is often left running"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_named() {
        assert_eq!(check(&[]), None);
        let nft = Listener { process: Some(("nft".into(), 7)) };
        let told = |listeners: &[Listener]| check(listeners).expect("a finding").what;
        assert_eq!(
            told(std::slice::from_ref(&nft)),
            "nft (7) listens to every change of nf_tables"
        );
        assert_eq!(
            told(&[nft, Listener { process: None }]),
            "nft (7), a process that can't be found out listen to every change of nf_tables"
        );
    }
}
