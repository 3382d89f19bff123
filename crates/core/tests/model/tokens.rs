//! Positions that travel: a session that moves to the other proxy, and one that shares its token with another session.

use crate::world::{Proxy, World};
use crate::{Mistake, Rules};
use highwater_core::{Session, Token, TokenVerdict, Watermark};

impl World {
    /// The other session acts.
    pub(crate) fn switch_session(&mut self, rules: Rules) {
        let Some(other) = &mut self.other else { return };
        std::mem::swap(&mut self.session, &mut other.session);
        std::mem::swap(&mut self.arriving, &mut other.arriving);
        std::mem::swap(&mut self.seen, &mut other.seen);
        self.home = 1 - self.home;
        self.believe(rules.made(Mistake::TokenReplacesWatermark));
    }

    /// The other session gets this one's token, and must show what this one saw.
    pub(crate) fn share(&mut self) -> Option<()> {
        let cluster = &self.proxies[self.home].cluster;
        self.session.resolve(cluster);
        let token = self.session.token(cluster, 0)?;
        let arrived = self.proxies[1 - self.home].cluster.next_seq();
        let other = self.other.as_mut()?;
        other.arriving = Some((Token::decode(&token.encode()).unwrap(), arrived));
        other.seen |= self.seen;
        self.left.hand_overs -= 1;
        Some(())
    }

    /// The watermark as a token, whatever is still to be measured.
    fn token_so_far(&self) -> Option<Token> {
        let Watermark { branch, lsn } = self.session.watermark()?;
        let replica_lsn = self.session.replica_watermark().map(|replica| replica.lsn);
        Some(Token { system_id: 1, branch, lsn, replica_lsn, issued: 0 })
    }

    pub(crate) fn hand_over(&mut self, rules: Rules) -> Option<()> {
        let cluster = &self.proxies[self.home].cluster;
        self.session.resolve(cluster);
        let token = match self.session.token(cluster, 0) {
            Some(token) if rules.made(Mistake::TokenWithoutReplicaPart) => Some(Token { replica_lsn: None, ..token }),
            Some(token) => Some(token),
            None if rules.made(Mistake::TokenWithoutPending) => self.token_so_far(),
            None if self.session.is_resolved() => None,
            None => return None,
        };
        // Nobody will ask the old proxy again: whatever it knows is one and the same state.
        self.proxies[self.home] = Proxy::new(rules);
        self.home = 1 - self.home;
        self.left.hand_overs -= 1;
        self.session = Session::default();
        let arrived = self.proxies[self.home].cluster.next_seq();
        self.arriving = token.map(|token| (Token::decode(&token.encode()).unwrap(), arrived));
        self.believe(rules.made(Mistake::TokenReplacesWatermark));
        Some(())
    }

    /// Takes the arriving token over as soon as the home proxy believes it. A genuine one is never refused.
    pub(crate) fn believe(&mut self, replaces: bool) {
        let Some((token, arrived)) = self.arriving else { return };
        match self.proxies[self.home].cluster.on_token(&token, arrived) {
            TokenVerdict::Accept => {
                if replaces {
                    self.session = Session::default();
                }
                self.session.absorb(&self.proxies[self.home].cluster, token.session());
                self.arriving = None;
            }
            // A newer timeline than the proxy knows: it will.
            TokenVerdict::NeedsPrimaryProbe | TokenVerdict::UnknownTimeline => {}
            other => panic!("genuine token refused: {other:?}"),
        }
    }
}
