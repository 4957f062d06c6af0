//! The table as a value.

use tierwall_ruleset::{Chain, Family, KeyType, NameTaken, Rule, Set, SetSpec, Table};

#[test]
fn what_has_a_name_is_never_overwritten() {
    let chain = |comment: &str| Chain { base: None, rules: vec![Rule::new(comment, vec![])] };
    let set = |spec: SetSpec| Set { spec, elements: tierwall_ruleset::Elements::Keys([].into()) };
    let taken = |kind| Err(NameTaken { kind, name: "x".to_owned() });
    let mut table = Table::new();
    // Each kind of object has names of its own.
    assert_eq!(table.add_chain("x", chain("first")), Ok(()));
    assert_eq!(table.add_set("x", set(SetSpec::intervals(KeyType::Port))), Ok(()));
    assert_eq!(table.add_counter("x"), Ok(()));
    let before = table.clone();
    let other = SetSpec::intervals(KeyType::Address(Family::V4));
    assert_eq!(table.add_chain("x", chain("second")), taken("chain"));
    assert_eq!(table.add_set("x", set(other)), taken("set"));
    assert_eq!(table.add_counter("x"), taken("counter"));
    assert_eq!(table, before);
}
