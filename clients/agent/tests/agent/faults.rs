use crate::Scene;
use crate::seller::Fault;
use tallybook_agent::{AgentError, Phase};
use tallybook_rules::{Amount, Rejection};

#[tokio::test]
async fn a_lost_answer_is_asked_for_with_the_same_voucher_and_paid_once() {
    for fault in [Fault::Drop, Fault::Gateway] {
        let scene = Scene::usual().await;
        scene.served().await;
        scene.seller.faults([fault]);
        scene.served().await;
        let books = scene.seller.books();
        assert_eq!(books.served, 2, "{fault:?}: served once, answered twice");
        assert_eq!(books.vouchers[1], books.vouchers[2]);
        drop(books);
        assert_eq!((scene.seller.charged(), scene.agent.spent()), (1_000, Amount::new(1_000)));
    }
}

#[tokio::test]
async fn a_call_whose_answer_is_gone_is_not_paid_twice_behind_the_callers_back() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::GatewayAndForget]);
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::ChargedWithoutAnswer { .. }), "{error}");
    assert_eq!(scene.seller.charged(), 1_000);
    // Then the channel goes on from there
    scene.served().await;
    assert_eq!(scene.seller.charged(), 1_500);
    assert_eq!(scene.agent.spent(), Amount::new(1_500));
}

#[tokio::test]
async fn a_server_that_claims_more_than_was_signed_loses_the_channel_and_gains_nothing() {
    for (fault, claimed) in [
        (Fault::Claim(501), 501),
        (Fault::Claim(10_000), 10_000),
        (Fault::ClaimUnderOldVoucher(1_000), 1_000),
        (Fault::ClaimUnderOldVoucher(501), 501),
    ] {
        let scene = Scene::usual().await;
        scene.served().await;
        scene.seller.faults([fault]);
        let error = scene.get("/x").await.unwrap_err();
        let expected = Amount::new(claimed);
        assert!(matches!(error, AgentError::Dishonest { claimed, .. } if claimed == expected), "{fault:?}: {error}");
        assert_eq!(scene.signed(), 1_000, "never above charged + price");
        assert_eq!(scene.agent.channels()[0].phase, Phase::GivenUp);
        assert_eq!(scene.agent.spent(), Amount::new(500));
    }
}

#[tokio::test]
async fn a_busy_channel_is_waited_for() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::Busy, Fault::Busy]);
    scene.served().await;
    assert_eq!(scene.seller.charged(), 1_000);
}

#[tokio::test]
async fn given_a_reservation_that_expired_when_paid_again_then_once_and_with_the_same_voucher() {
    for fault in [Fault::Expired, Fault::Refuse(Rejection::NoReservation)] {
        let scene = Scene::usual().await;
        scene.served().await;
        scene.seller.faults([fault]);
        scene.served().await;
        assert_eq!((scene.seller.charged(), scene.agent.spent()), (1_000, Amount::new(1_000)));
        let books = scene.seller.books();
        assert_eq!(books.vouchers[1], books.vouchers[2], "{fault:?}");
    }
}

#[tokio::test]
async fn given_metered_calls_when_an_answer_is_lost_then_what_it_cost_is_found_out_and_not_paid_twice() {
    let scene = Scene::usual().await;
    scene.seller.faults([Fault::Discount(499)]);
    scene.served().await;
    // Given a call that cost little, and whose answer is gone
    scene.seller.faults([Fault::CheapAndForgotten(30)]);
    let error = scene.get("/x").await.unwrap_err();
    let charged = Amount::new(30);
    assert!(matches!(error, AgentError::ChargedWithoutAnswer { charged: at } if at == charged), "{error}");
    assert_eq!(scene.agent.spent(), Amount::new(31));
    // Then smaller vouchers than the last one are signed, and a server that claims the ceiling lies
    scene.seller.faults([Fault::Discount(400)]);
    scene.served().await;
    assert_eq!((scene.agent.spent(), scene.signed()), (Amount::new(131), 531));
    scene.seller.faults([Fault::ClaimUnderOldVoucher(531)]);
    assert!(matches!(scene.get("/x").await, Err(AgentError::Dishonest { .. })));
}

#[tokio::test]
async fn a_server_that_stays_busy_is_left_alone_in_the_end() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::Busy; 50]);
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Unavailable { attempts: 8, .. }), "{error}");
    assert!(error.to_string().contains("channel_busy"), "{error}");
    assert_eq!(scene.seller.charged(), 500);
}

#[tokio::test]
async fn a_facilitator_that_is_down_for_a_moment_is_waited_for() {
    let scene = Scene::usual().await;
    scene.seller.faults([Fault::Down]);
    scene.served().await;
    scene.seller.faults([Fault::Down, Fault::Down]);
    scene.served().await;
    assert_eq!((scene.seller.charged(), scene.seller.world.lock().deposits), (1_000, 1));
}

#[tokio::test]
async fn a_handler_that_fails_costs_nothing_and_its_answer_is_the_answer() {
    let scene = Scene::usual().await;
    scene.served().await;
    for (fault, status) in [(Fault::NotFound, 404), (Fault::Broken, 500)] {
        scene.seller.faults([fault]);
        assert_eq!(scene.get("/x").await.unwrap().status(), status);
    }
    scene.served().await;
    assert_eq!((scene.seller.charged(), scene.agent.spent()), (1_000, Amount::new(1_000)));
    assert_eq!(scene.signed(), 1_000);
}

#[tokio::test]
async fn a_failed_call_that_is_charged_after_all_is_a_lie() {
    let scene = Scene::usual().await;
    scene.served().await;
    // Given a handler that failed, on a voucher that the server keeps
    scene.seller.faults([Fault::NotFound]);
    scene.get("/x").await.unwrap();
    // When the server claims that it was charged, under the voucher that we did sign
    let kept = scene.seller.books().vouchers[1];
    {
        let mut books = scene.seller.books();
        let entry = books.channels.get_mut(&kept.channel_id).unwrap();
        (entry.charged, entry.newest) = (kept.max_claimable_amount, Some(kept.into()));
    }
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Dishonest { .. }), "{error}");
}

#[tokio::test]
async fn a_served_call_without_a_receipt_may_have_been_charged() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::NoReceipt]);
    scene.served().await;
    scene.get("/y").await.unwrap();
    assert_eq!((scene.seller.charged(), scene.agent.spent()), (1_500, Amount::new(1_500)));
}

#[tokio::test]
async fn a_call_may_cost_less_than_its_price() {
    let scene = Scene::usual().await;
    scene.seller.faults([Fault::Discount(380)]);
    scene.served().await;
    assert_eq!(scene.agent.spent(), Amount::new(120));
    scene.served().await;
    assert_eq!((scene.seller.charged(), scene.signed()), (620, 620));
}

#[tokio::test]
async fn who_loses_the_race_for_a_slot_takes_another() {
    let scene = Scene::usual().await;
    scene.seller.faults([Fault::Race, Fault::Race]);
    scene.served().await;
    assert_eq!(scene.seller.world.lock().deposits, 1);
    assert_eq!(scene.open_channels(), 1);
    assert_eq!(scene.agent.committed(), Amount::new(10_000), "lost races tie up nothing");
}

#[tokio::test]
async fn a_full_page_is_said_to_be_full() {
    let scene = Scene::usual().await;
    (0..8).for_each(|slot| scene.seller.world.lock().occupy(slot));
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::NoFreeSlot), "{error}");
    assert_eq!(scene.agent.committed(), Amount::ZERO);
}

#[tokio::test]
async fn an_opening_that_landed_unseen_is_found_on_chain() {
    let scene = Scene::usual().await;
    scene.seller.faults([Fault::DropAfterOpening]);
    scene.served().await;
    assert_eq!((scene.seller.world.lock().deposits, scene.seller.charged()), (1, 500));
}

#[tokio::test]
async fn an_opening_that_landed_unseen_is_found_after_a_restart() {
    let scene = Scene::with(crate::policy().attempts(1)).await;
    scene.seller.faults([Fault::DropAfterOpening]);
    assert!(matches!(scene.get("/x").await, Err(AgentError::AnswerLost { .. })));
    let scene = scene.restart();
    assert!(matches!(scene.agent.channels()[0].phase, Phase::Opening { .. }));
    scene.served().await;
    assert_eq!(scene.seller.world.lock().deposits, 1, "no second deposit");
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
}

#[tokio::test]
async fn an_opening_that_never_left_is_made_again_after_a_restart() {
    let scene = Scene::with(crate::policy().attempts(1)).await;
    scene.seller.faults([Fault::Down]);
    assert!(scene.get("/x").await.is_err());
    let scene = scene.restart();
    scene.served().await;
    assert_eq!((scene.seller.world.lock().deposits, scene.seller.charged()), (1, 500));
    assert_eq!(scene.agent.channels().len(), 1);
    assert_eq!(scene.agent.committed(), Amount::new(10_000));
}

#[tokio::test]
async fn a_deposit_that_expired_is_signed_again_for_the_same_slot() {
    for reason in [Rejection::DepositExpired, Rejection::SettlementPending, Rejection::SimulationFailed] {
        let scene = Scene::usual().await;
        scene.seller.faults([Fault::Refuse(reason)]);
        scene.served().await;
        let books = scene.seller.books();
        assert_eq!(books.vouchers[0].channel_id, books.vouchers[1].channel_id, "{reason:?}");
        drop(books);
        assert_eq!(scene.agent.committed(), Amount::new(10_000));
    }
}

#[tokio::test]
async fn a_channel_that_closes_is_given_up_for_a_new_one() {
    for reason in [Rejection::ChannelClosing, Rejection::UnknownChannel, Rejection::DepositExceeded] {
        let scene = Scene::usual().await;
        scene.served().await;
        scene.seller.faults([Fault::Refuse(reason)]);
        scene.served().await;
        assert_eq!(scene.seller.world.lock().deposits, 2, "{reason:?}");
        assert_eq!(scene.open_channels(), 1);
    }
}

#[tokio::test]
async fn a_server_that_refuses_channel_after_channel_is_left_alone() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::Refuse(Rejection::UnknownChannel); 9]);
    assert!(scene.get("/x").await.is_err());
    assert!(scene.seller.world.lock().deposits <= 3);
    assert!(scene.agent.committed() <= Amount::new(30_000));
}

#[tokio::test]
async fn a_final_refusal_is_final() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.faults([Fault::Refuse(Rejection::BadSignature)]);
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Refused(_)), "{error}");
    assert_eq!(scene.seller.books().vouchers.len(), 2);
}
