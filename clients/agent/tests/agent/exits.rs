//! Ways out that other keys pay for, and ways in that the wallet pays for.

use crate::seller::Fault;
use crate::{Scene, policy};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tallybook_agent::{AgentError, Chain, Exit, ExitStep, Phase};
use tallybook_chain::transaction::{from_bytes, to_bytes};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{Key, TransactionBytes};

/// Somebody with lamports and no other key of ours signs what came as text, and sends it.
async fn complete(scene: &Scene, exit: &Exit, other: &Keypair) {
    let text = String::from(exit.transaction.clone());
    let bytes = TransactionBytes::try_from(text).unwrap();
    let mut transaction = from_bytes(bytes.as_bytes()).unwrap();
    assert_eq!(transaction.message.static_account_keys()[0], other.pubkey());
    transaction.signatures[0] = other.sign_message(&transaction.message.serialize());
    scene.seller.world.send(&to_bytes(&transaction).unwrap()).await.unwrap();
}

#[tokio::test]
async fn given_a_wallet_without_lamports_when_it_leaves_then_any_other_key_can_send_both_steps() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.world.lock().lamports = 0;
    let (id, other) = (scene.agent.channels()[0].id, Keypair::new());
    let error = scene.agent.force_close(id).await.unwrap_err();
    assert!(matches!(error, AgentError::NoLamports { held: 0, .. }), "{error}");
    let fee_payer = Key(other.pubkey().to_bytes());
    // Given the request to close
    let exit = scene.agent.exit_transaction(id, fee_payer).await.unwrap();
    assert_eq!(exit.step, ExitStep::RequestClose);
    complete(&scene, &exit, &other).await;
    // Then the grace period is waited for
    let closing_at = scene.agent.force_close(id).await.unwrap();
    let error = scene.agent.exit_transaction(id, fee_payer).await.unwrap_err();
    assert!(matches!(error, AgentError::GraceNotOver { closing_at: at, .. } if at == closing_at), "{error}");
    assert!(matches!(scene.agent.withdraw(id).await, Err(AgentError::GraceNotOver { .. })));
    scene.seller.world.lock().now = closing_at;
    // And the withdrawal needs no signature of the wallet
    let exit = scene.agent.exit_transaction(id, fee_payer).await.unwrap();
    assert_eq!(exit.step, ExitStep::Withdraw);
    complete(&scene, &exit, &other).await;
    let closed = scene.agent.withdraw(id).await.unwrap();
    assert_eq!(closed.charged, Amount::new(500));
    assert_eq!(scene.agent.channels()[0].phase, Phase::Ended);
    let world = scene.seller.world.lock();
    assert_eq!((world.held, world.lamports, world.others_paid), (1_000_000, 0, 2));
}

#[tokio::test]
async fn given_another_key_at_hand_when_leaving_then_it_pays() {
    let scene = Scene::usual().await;
    scene.served().await;
    scene.seller.world.lock().lamports = 0;
    let (id, other) = (scene.agent.channels()[0].id, Keypair::new());
    scene.seller.world.lock().wallets_with_lamports.push(other.pubkey());
    let closing_at = scene.agent.force_close_paid_by(id, &other).await.unwrap();
    scene.seller.world.lock().now = closing_at;
    scene.agent.withdraw_paid_by(id, &other).await.unwrap();
    assert_eq!(scene.seller.world.lock().others_paid, 2);
    assert_eq!(scene.seller.world.lock().held, 1_000_000);
}

#[tokio::test]
async fn given_a_sponsor_that_refuses_when_the_wallet_may_pay_then_it_opens_the_channel_itself() {
    // In a 402, and by an answer that the facilitator is down
    for faults in [vec![Fault::Refuse(Rejection::QuotaExceeded)], vec![Fault::Down; 3]] {
        let scene = Scene::with(policy().own_fees(true)).await;
        scene.seller.faults(faults.clone());
        scene.served().await;
        scene.served().await;
        let world = scene.seller.world.lock();
        assert_eq!((world.deposits, world.lamports), (1, 995_000), "{faults:?}");
        drop(world);
        assert_eq!((scene.seller.charged(), scene.agent.committed()), (1_000, Amount::new(10_000)));
    }
}

#[tokio::test]
async fn given_a_sponsor_that_refuses_when_the_wallet_may_not_or_cannot_pay_then_nothing_is_opened() {
    let scene = Scene::usual().await;
    scene.seller.faults([Fault::Refuse(Rejection::QuotaExceeded)]);
    let error = scene.get("/x").await.unwrap_err();
    assert!(matches!(error, AgentError::Refused(_)), "{error}");
    let scene = Scene::with(policy().own_fees(true)).await;
    scene.seller.world.lock().lamports = 4_999;
    scene.seller.faults([Fault::Refuse(Rejection::QuotaExceeded)]);
    assert!(matches!(scene.get("/x").await, Err(AgentError::NoLamports { held: 4_999, .. })));
    assert_eq!(scene.seller.world.lock().deposits, 0);
}
