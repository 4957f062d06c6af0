//! What `explain` says of every probe of every scenario, which real connections met too
//! (`scenarios.rs`).

use std::path::Path;
use tierwall_tests::scenario::Scenario;

#[test]
fn every_probe_is_explained_as_it_went() {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut asked = 0;
    for entry in std::fs::read_dir(folders).expect("the scenarios") {
        let folder = entry.expect("an entry").path();
        if folder.is_dir() {
            let explained = Scenario::load(&folder).and_then(|scenario| scenario.explained());
            asked += explained.unwrap_or_else(|error| panic!("{}: {error:#}", folder.display()));
        }
    }
    assert!(asked > 200, "{asked} only");
}
