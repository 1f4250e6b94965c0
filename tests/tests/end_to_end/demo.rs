use anyhow::Result;
use tallybook_cli::demo::{Demo, FAILS_EVERY, perform};
use tallybook_cli::progress::Progress;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_demo_holds_to_the_last_base_unit() -> Result<()> {
    // Given a handful of agents, three of which make trouble
    let demo = Demo { calls: 400, agents: 6, slot_milliseconds: 50, settle_after_seconds: 2 };
    // When they perform
    let story = perform(&demo, Progress::Silent).await?;
    // Then everything holds that the demo promises
    for check in story.checks()? {
        assert!(check.holds, "{check}");
    }
    assert_eq!(story.paid.served, 400);
    assert!(story.paid.failed >= 400 / FAILS_EVERY, "handlers fail now and then");
    assert!(story.table()?.contains("lamports per claim"));
    Ok(())
}
