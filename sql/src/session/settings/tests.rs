use super::*;

fn settings() -> Settings {
    Settings::new("me", "psql", &[]).expect("valid")
}

fn value(settings: &Settings, name: &str) -> String {
    settings.show(name).expect("known").1
}

#[test]
fn set_lasts_after_commit_and_goes_with_a_rollback() {
    let mut settings = settings();
    settings
        .set("statement_timeout", Some("1500"), false)
        .expect("valid");
    assert_eq!(value(&settings, "STATEMENT_TIMEOUT"), "1500ms");
    settings.end_transaction(true);
    assert_eq!(
        settings.active().statement_timeout,
        Some(Duration::from_millis(1500))
    );
    settings
        .set("statement_timeout", Some("2min"), false)
        .expect("valid");
    assert_eq!(value(&settings, "statement_timeout"), "2min");
    settings.end_transaction(false);
    assert_eq!(value(&settings, "statement_timeout"), "1500ms");
}

#[test]
fn set_local_ends_with_the_transaction_and_uncovers_what_was_set_beneath() {
    let mut settings = settings();
    settings
        .set("scry.read_from", Some("mirror"), false)
        .expect("valid");
    settings
        .set("scry.read_from", Some("PRIMARY"), true)
        .expect("valid");
    assert_eq!(settings.active().read_from, ReadFrom::Primary);
    settings.end_transaction(true);
    assert_eq!(settings.active().read_from, ReadFrom::Mirror);
}

#[test]
fn a_savepoint_brings_back_what_it_saw() {
    let mut settings = settings();
    settings.set("application_name", Some("a"), false).expect("valid");
    let mark = settings.mark();
    settings.set("application_name", Some("b"), false).expect("valid");
    settings.back_to(&mark);
    settings.end_transaction(true);
    assert_eq!(value(&settings, "application_name"), "a");
}

#[test]
fn invalid_values_are_refused_by_name() {
    let mut settings = settings();
    for (name, bad, code) in [
        ("scry.freshness", "bounded", SqlState::INVALID_PARAMETER_VALUE),
        ("client_encoding", "latin1", SqlState::INVALID_PARAMETER_VALUE),
        ("extra_float_digits", "4", SqlState::INVALID_PARAMETER_VALUE),
        ("jit", "maybe", SqlState::INVALID_PARAMETER_VALUE),
        ("server_version", "16", SqlState::CANT_CHANGE_RUNTIME_PARAM),
        ("nonsense", "1", SqlState::UNDEFINED_OBJECT),
        (
            "standard_conforming_strings",
            "off",
            SqlState::FEATURE_NOT_SUPPORTED,
        ),
    ] {
        assert_eq!(
            settings.set(name, Some(bad), false).expect_err(name).code,
            code,
            "{name}"
        );
    }
    settings
        .set("scry.freshness", Some("bounded 250ms"), false)
        .expect("valid");
    assert_eq!(
        settings.active().freshness,
        Freshness::Bounded(Duration::from_millis(250))
    );
}

#[test]
fn only_reported_settings_are_announced_and_once() {
    let mut settings = settings();
    settings.set("application_name", Some("x"), false).expect("valid");
    settings.set("application_name", Some("y"), false).expect("valid");
    settings.set("work_mem", Some("8MB"), false).expect("valid");
    assert_eq!(settings.take_changed(), [("application_name", "y".to_owned())]);
    assert!(settings.take_changed().is_empty());
}
