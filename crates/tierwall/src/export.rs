//! `tierwall export`: the compiled table, for `nft` and for other eyes.

use crate::error::Error;
use crate::judge::{judge, tell_diagnostics};
use crate::options::{Common, Export, Format};
use crate::output::{print, print_json};

pub(crate) fn run(common: &Common, options: &Export) -> Result<u8, Error> {
    let judged = judge(common, &options.judgement)?;
    // Beside the output, in whatever language that is.
    tell_diagnostics(&judged.warnings);
    let ruleset = judged.compile(None);
    match options.format {
        Format::Nft if !common.json => print(&ruleset.to_nft_script())?,
        Format::Nft | Format::Json => print_json(&ruleset.to_nft_json())?,
    }
    Ok(control::exit::OK)
}
