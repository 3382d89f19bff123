//! The users: what they do all day, and what they tell the judge.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;

use super::judge::{Tally, Witness};
use super::shop::{Cookie, LAG_WINDOW, Page, Shop};

/// Items that a user wishes for before he looks around.
const WISHES_PER_VISIT: u32 = 4;

/// Pages that a user looks at when his writes are no longer young, and in the evening.
const PAGES_LATER: u32 = 2;

/// Pages that a user looks at after a message came for him.
const PAGES_PER_MESSAGE: u32 = 4;

/// A message is noticed when the faster standby shows it and the slower does not yet: the moment at which two servers
/// disagree, and two pages that ask one each.
const MESSAGE_IS_NOTICED: Duration = Duration::from_millis(400);

/// What a user comes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Logs in, wishes for things, looks at his list.
    Wishing,
    /// Writes nothing himself, watches the badge that counts his messages.
    Reading,
}

/// One user, with his browser.
#[derive(Debug)]
pub(crate) struct Visitor {
    id: u32,
    habit: Habit,
    cookie: Cookie,
    /// The browser of the one who writes to him.
    friend: Cookie,
    wishes: i64,
    messages: i64,
    logins: i64,
    list: Witness,
    badge: Witness,
    pub(crate) tally: Tally,
}

impl Visitor {
    /// A user whom the shop has never seen.
    pub(crate) fn new(id: u32, habit: Habit) -> Self {
        let [cookie, friend] = [Cookie::default(), Cookie::default()];
        let [list, badge] = [Witness::default(); 2];
        Self { id, habit, cookie, friend, wishes: 0, messages: 0, logins: 0, list, badge, tally: Tally::default() }
    }

    /// Comes at some moment and goes on until the shop closes.
    pub(crate) async fn spend_day(mut self, shop: &Shop) -> Result<Self> {
        pause(Duration::ZERO, LAG_WINDOW).await;
        while shop.is_open() {
            let before = self.tally.pairs();
            match self.habit {
                Habit::Wishing => self.visit(shop).await?,
                Habit::Reading => self.read_message(shop).await?,
            }
            let after = self.tally.pairs();
            shop.on_judged([after[0] - before[0], after[1] - before[1]]);
        }
        Ok(self)
    }

    /// Looks at a few more pages, while nobody writes any more.
    pub(crate) async fn spend_evening(mut self, shop: &Shop) -> Result<Self> {
        for _ in 0..PAGES_LATER {
            pause(Duration::ZERO, Duration::from_secs(1)).await;
            match self.habit {
                Habit::Wishing => drop(self.look_at_list(shop).await?),
                Habit::Reading => drop(self.look_at_badge(shop).await?),
            }
        }
        Ok(self)
    }

    async fn visit(&mut self, shop: &Shop) -> Result<()> {
        self.log_in(shop).await?;
        for _ in 0..WISHES_PER_VISIT {
            self.wish(shop).await?;
        }
        self.look_at_list(shop).await?;
        for _ in 0..PAGES_LATER {
            pause(LAG_WINDOW / PAGES_LATER, LAG_WINDOW / PAGES_LATER + Duration::from_millis(100)).await;
            self.look_at_list(shop).await?;
        }
        Ok(())
    }

    /// The session row is written; the redirect's target looks for it.
    async fn log_in(&mut self, shop: &Shop) -> Result<()> {
        self.logins += 1;
        let key = format!("{}-{}", self.id, self.logins);
        let sql = format!("INSERT INTO session (key, visitor) VALUES ('{key}', {})", self.id);
        shop.write(&mut self.cookie, &sql).await?;
        let mut session = Witness::default();
        session.wrote(1);
        let page = shop.read(&mut self.cookie, "count(*)", &format!("session WHERE key = '{key}'")).await?;
        let is_gone = session.was_shown(self.value_of(page), &mut self.tally);
        self.tally.login.add(is_gone);
        Ok(())
    }

    /// The item is saved; the redirect's target lists the items.
    async fn wish(&mut self, shop: &Shop) -> Result<()> {
        self.wishes += 1;
        let sql = format!("INSERT INTO wish (visitor, number) VALUES ({}, {})", self.id, self.wishes);
        shop.write(&mut self.cookie, &sql).await?;
        self.list.wrote(self.wishes);
        let is_gone = self.look_at_list(shop).await?;
        self.tally.wishlist.add(is_gone);
        Ok(())
    }

    /// A friend writes; some pages later the badge has been looked at several times.
    async fn read_message(&mut self, shop: &Shop) -> Result<()> {
        self.messages += 1;
        let sql = format!("INSERT INTO message (visitor, number) VALUES ({}, {})", self.id, self.messages);
        shop.write(&mut self.friend, &sql).await?;
        pause(MESSAGE_IS_NOTICED, MESSAGE_IS_NOTICED).await;
        let mut went_backwards = false;
        for _ in 0..PAGES_PER_MESSAGE {
            pause(Duration::ZERO, Duration::from_millis(100)).await;
            went_backwards |= self.look_at_badge(shop).await?;
        }
        self.tally.badge.add(went_backwards);
        Ok(())
    }

    /// Whether the list contradicts what he knows.
    async fn look_at_list(&mut self, shop: &Shop) -> Result<bool> {
        let from = format!("wish WHERE visitor = {}", self.id);
        let page = shop.read(&mut self.cookie, "coalesce(max(number), 0)", &from).await?;
        let value = self.value_of(page);
        Ok(self.list.was_shown(value, &mut self.tally))
    }

    /// Whether the badge contradicts what he knows.
    async fn look_at_badge(&mut self, shop: &Shop) -> Result<bool> {
        let page = shop.read(&mut self.cookie, "count(*)", &format!("message WHERE visitor = {}", self.id)).await?;
        let value = self.value_of(page);
        Ok(self.badge.was_shown(value, &mut self.tally))
    }

    fn value_of(&mut self, page: Page) -> i64 {
        self.tally.read_times.push(page.took);
        self.tally.on_standbys.add(page.is_from_standby);
        if page.is_outside_window {
            self.tally.on_standbys_outside_window.add(page.is_from_standby);
        }
        page.value
    }
}

/// Waits as a person does: a while, not less than `least` and not more than `most`.
pub(crate) async fn pause(least: Duration, most: Duration) {
    let span = rand::rng().random_range(least..=most);
    tokio::time::sleep(span).await;
}
