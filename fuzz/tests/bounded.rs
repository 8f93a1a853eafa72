//! Every target for a bounded number of inputs: the inputs that were kept, the seeds, and some made of them.

use scry_fuzz::runner::{Present, attack};
use scry_fuzz::targets::TARGETS;

/// Always the same: what fails here fails for everybody.
const SEED: u64 = 20_260_101;

fn holds(name: &str) {
    let entry = TARGETS.iter().find(|entry| entry.name == name).expect("a target");
    if let Err(finding) = attack(entry, SEED, &Present::default(), |inputs| inputs < entry.bounded) {
        panic!(
            "{}: {}\nseed {SEED}, input number {}: {}",
            entry.promise,
            finding.message,
            finding.number,
            finding.input.escape_ascii()
        );
    }
}

macro_rules! targets {
    ($($test:ident $name:literal;)*) => {
        $(
            #[test]
            fn $test() {
                holds($name);
            }
        )*

        #[test]
        fn every_target_is_tested_here() {
            let names: Vec<&str> = TARGETS.iter().map(|entry| entry.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

targets! {
    messages_decode_the_same_however_they_arrive "wire";
    log_records_have_one_encoding "record";
    catalog_changes_have_one_encoding "catalog";
    keys_order_as_their_values_do "key";
    rows_give_back_what_was_put_in "row";
    values_are_read_back_from_their_own_forms "types";
    a_damaged_log_gives_a_true_beginning_or_is_refused "log";
    a_damaged_mirror_is_named_and_made_anew "mirror";
    copy_data_means_the_same_however_it_is_split "copy";
    any_text_ends_in_an_answer_or_an_sqlstate "sql";
    any_stream_of_messages_is_answered_to_its_end "server";
    any_request_is_answered_and_the_server_goes_on "http";
}
