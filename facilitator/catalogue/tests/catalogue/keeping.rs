use super::*;

fn records(catalogue: &mut Catalogue) -> Vec<ListingRecord> {
    let changes = catalogue.changes(usize::MAX);
    changes.into_iter().map(|change| record(change).unwrap()).collect()
}

#[test]
fn given_many_calls_when_they_are_written_then_it_is_one_row_and_a_restart_knows_all_of_it() {
    let mut before = catalogue();
    let request = Request::of(&plain("w"), &payee(1), &weather());
    for call in 0..100 {
        request.paid(&mut before, u8::try_from(call % 5 + 10).unwrap(), NOW + call);
    }
    Request::of(&plain("v"), &payee(2), &weather()).paid(&mut before, 7, NOW);
    let rows = records(&mut before);
    assert_eq!(rows.len(), 2);
    assert_eq!(before.changes(10), [], "each is handed out once");

    let mut after = Catalogue::open(settings(), &rows);
    assert_eq!(all(&after), all(&before));
    assert_eq!(
        after.search("weather", &Filter::default(), (0, 9), NOW),
        before.search("weather", &Filter::default(), (0, 9), NOW)
    );
    assert_eq!(request.paid(&mut after, 10, NOW + 200), Taken::Listed, "the same declaration is no change");
    assert_eq!(all(&after)[0].standing.as_ref().unwrap().paid_calls, 101);
    assert_eq!(all(&after)[0].standing.as_ref().unwrap().payers, 5, "a payer of before is known");
    Request::of(&plain("u"), &payee(2), &weather()).paid(&mut after, 7, NOW);
    assert_eq!(urls(&all(&after)), [plain("w"), plain("v"), plain("u")], "what is new comes last");
}

#[test]
fn given_rows_that_cannot_be_read_when_they_are_opened_then_they_are_taken_out_and_the_rest_stays() {
    let mut before = catalogue();
    Request::of(&plain("w"), &payee(1), &weather()).paid(&mut before, 7, NOW);
    let mut rows = records(&mut before);
    let twice = ListingRecord { key: [8; 32], ..rows[0].clone() };
    rows.extend([ListingRecord { key: [9; 32], text: "{".to_owned(), paid_at: 0 }, twice]);
    let mut after = Catalogue::open(settings(), &rows);
    assert_eq!(all(&after), all(&before));
    assert_eq!(after.changes(10), [Change::Unlisted { key: [8; 32] }, Change::Unlisted { key: [9; 32] }]);
}

#[test]
fn given_two_writers_of_the_same_rows_when_each_reads_what_the_other_wrote_then_both_show_the_same() {
    let (mut one, mut two) = (catalogue(), catalogue());
    let (first, second) =
        (Request::of(&plain("w"), &payee(1), &weather()), Request::of(&plain("v"), &payee(2), &weather()));
    first.paid(&mut one, 7, NOW);
    second.paid(&mut two, 7, NOW + 1);
    // Each has given its own the first number.
    let mut rows = [records(&mut one), records(&mut two)].concat();
    one.refresh(&rows);
    two.refresh(&rows);
    let sorted = |catalogue: &Catalogue| {
        let mut all = all(catalogue);
        all.sort_by(|one, other| one.resource.cmp(&other.resource));
        all
    };
    assert_eq!((sorted(&one).len(), sorted(&one)), (2, sorted(&two)));
    assert_eq!((one.changes(9), two.changes(9)), (vec![], vec![]), "what is read is not written again");
    assert_eq!(sorted(&Catalogue::open(settings(), &rows)), sorted(&one), "nor lost by a restart");

    // What is newer counts, what is not written yet stays, and what is gone is gone.
    second.paid(&mut two, 8, NOW + 9);
    let newer = records(&mut two);
    Request::of(&plain("u"), &payee(3), &weather()).paid(&mut one, 7, NOW + 9);
    rows = [&newer[..], &rows[1..]].concat();
    rows.dedup_by_key(|row| row.key);
    one.refresh(&rows);
    assert_eq!(urls(&sorted(&one)), [plain("u"), plain("v")]);
    assert_eq!(sorted(&one)[1].standing.as_ref().unwrap().payers, 2);
    assert_eq!(records(&mut one).len(), 1);
}

#[test]
fn given_payments_of_days_when_they_are_counted_then_recent_ones_are_those_of_a_month() {
    let mut catalogue = catalogue();
    let request = Request::of(&plain("w"), &payee(1), &weather());
    for day in 0..40 {
        request.paid(&mut catalogue, 7, NOW + day * DAY);
    }
    let recent =
        |now: i64| catalogue.page(&Filter::default(), 0, 1, now).0[0].standing.clone().unwrap().recent_paid_calls;
    assert_eq!(recent(NOW + 39 * DAY), 30);
    assert_eq!(recent(NOW + 59 * DAY), 10);
    assert_eq!(recent(NOW + 1_000 * DAY), 0);
    assert_eq!(recent(NOW), 30, "a clock that runs backwards takes nothing away");
}

#[test]
fn given_a_known_declaration_when_it_is_paid_for_again_then_it_is_counted_without_being_looked_at() {
    let mut catalogue = catalogue();
    let request = Request::of(&plain("w"), &payee(1), &weather());
    request.paid(&mut catalogue, 7, NOW);
    let (key, digest) = (*request.judged().unwrap().key(), request.sale().digest());
    assert!(catalogue.again(&key, digest, &wallet(8), None, NOW + 1));
    assert_eq!(all(&catalogue)[0].standing.as_ref().unwrap().payers, 2);
    assert!(!catalogue.again(&key, [0; 32], &wallet(8), None, NOW), "another declaration");
    assert!(!catalogue.again(&[0; 32], digest, &wallet(8), None, NOW), "no such entry");
    assert_eq!(all(&catalogue)[0].standing.as_ref().unwrap().paid_calls, 2);
}

#[test]
fn given_what_nobody_pays_for_any_more_when_its_time_is_over_then_it_is_taken_out_of_the_store_too() {
    let mut catalogue = catalogue();
    let request = Request::of(&plain("w"), &payee(1), &weather());
    request.paid(&mut catalogue, 7, NOW);
    let key = *request.judged().unwrap().key();
    drop(catalogue.changes(9));
    catalogue.expire(NOW + 90 * DAY);
    assert_eq!(catalogue.len(), 1);
    catalogue.expire(NOW + 90 * DAY + 1);
    assert!(catalogue.is_empty());
    assert_eq!(catalogue.changes(9), [Change::Unlisted { key }]);
}
