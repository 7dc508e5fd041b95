"""Sign people in at an OpenID Connect provider: the authorization code flow with PKCE, state and nonce."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Collection
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
from starlette.datastructures import QueryParams
from starlette.requests import Request

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.clean_text import short_repr
from spoke_jobs.shared.https_service import base_url_problem
from spoke_jobs.shared.secret_file import Secret
from spoke_jobs.web.answers import Answer, Elsewhere, Page, Redirect, refusal
from spoke_jobs.web.authorizers import Authorizer, is_long_enough, is_name
from spoke_jobs.web.claim_rules import ClaimRules
from spoke_jobs.web.id_tokens import IdTokenRefused, UnknownKey, verified_claims
from spoke_jobs.web.oidc_provider import CodeRefused, OidcProvider, ProviderFailed
from spoke_jobs.web.signed_sessions import ATTEMPT_SECONDS, Attempt, Session, attempt_of, begin_attempt
from spoke_jobs.web.viewer import Viewer
from spoke_jobs.web.wanted_page import CALLBACK, OVERVIEW, SIGN_IN, SIGNED_OUT, local_page

_MOST_AT_ONCE = 20
"""How many people may sign in at once: each keeps a connection to the provider, for at most a few times 10 seconds."""
_LONGEST_CODE = 4096
_ERROR = re.compile(r"[a-z_]{1,40}")

logger = logging.getLogger(__name__)


class SignInFailed(Exception):
    """Somebody could not sign in. The page is for them."""

    def __init__(self, page: Page) -> None:
        super().__init__(str(page.values["title"]))
        self.page = page


class OidcSignIn(Authorizer):
    """Admits whom an OpenID Connect provider has signed in, and whom the rules admit.

    :param issuer: the provider's URL, as it gives it itself.
    :param public_url: where browsers find the dashboard. The provider sends them back to ``/sign-in/callback`` below
        it.
    :param secret: what sessions are signed with. Replicas need the same one.
    :param viewer: what those may see and do who may act. The name is that of their claims.
    :param ca_file: CA certificates in PEM form that verify the provider; empty for the system's.
    :param scopes: what to ask the provider for, besides the scopes for names and groups.
    :raises ConfigurationError: if one of them cannot be used.
    """

    signs_in = True

    def __init__(
        self,
        *,
        issuer: str,
        client_id: str,
        client_secret: Secret,
        public_url: str,
        secret: Secret,
        rules: ClaimRules,
        viewer: Viewer,
        ca_file: str = "",
        scopes: Collection[str] = (),
    ) -> None:
        if not secret:
            raise ConfigurationError("a key for sessions is missing, with which all replicas sign them")
        super().__init__(secret)
        if problem := base_url_problem(public_url):
            raise ConfigurationError(f"the dashboard's public URL can't be used: {problem}")
        self.provider = self
        self.name = urlsplit(issuer).netloc
        self._oidc = OidcProvider(issuer, client_id, client_secret, ca_file)
        self._public_url = public_url.rstrip("/")
        self._rules = rules
        self._viewer = viewer
        self._scopes = tuple(scopes)
        self._running = 0

    def signing_key(self) -> bytes:
        """Return the key with which sessions are signed now. With other rules, it is another one, and sessions end."""
        rules = self._rules
        decided = (
            *(self._oidc.issuer, self._oidc.client_id, rules.user_claim, rules.group_claim, rules.anyone),
            *(sorted(rules.groups), sorted(rules.read_only_groups)),
        )
        return hmac.digest(super().signing_key(), repr(decided).encode(), hashlib.sha256)

    async def viewer(self, request: Request, session: Session) -> Viewer | None:
        """See :class:`Authorizer`."""
        if not session.signed_in or not is_long_enough(self._secret):  # the file may have changed
            return None
        viewer = replace(self._viewer, name=session.name)
        return viewer.read_only() if session.only_looks else viewer

    async def start(self, session: Session, wanted: str, now: float) -> tuple[Answer, Session]:
        """See :class:`SignInProvider`."""
        try:
            metadata = await self._oidc.metadata()
        except ProviderFailed as failure:
            return self._away(failure), session
        attempt = begin_attempt(self.signing_key(), session, now)
        asked = {
            "response_type": "code",
            "client_id": self._oidc.client_id,
            "redirect_uri": self._callback,
            "scope": " ".join(self._asked_scopes(metadata.scopes)),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        address = httpx.URL(metadata.authorization_endpoint).copy_merge_params(asked)
        return Elsewhere(str(address)), replace(session, wanted="" if wanted == OVERVIEW else wanted)

    async def finish(self, session: Session, answer: QueryParams, now: float) -> tuple[Answer, Session]:
        """See :class:`SignInProvider`."""
        if session.signed_in:  # somebody went back to this address: its code was used
            return Redirect(OVERVIEW), session
        if self._running >= _MOST_AT_ONCE:
            return _refusal("Busy", "Too many people sign in at once. Try again in a moment.", 503), session
        self._running += 1
        try:
            return Redirect(local_page(session.wanted or OVERVIEW)), await self._signed_in(session, answer, now)
        except SignInFailed as failure:
            return failure.page, session
        except ProviderFailed as failure:
            return self._away(failure), session
        finally:
            self._running -= 1

    async def sign_out_address(self) -> str:
        """See :class:`SignInProvider`."""
        try:
            end = (await self._oidc.metadata()).end_session_endpoint
        except ProviderFailed:
            return ""
        back = {"client_id": self._oidc.client_id, "post_logout_redirect_uri": self._public_url + SIGN_IN}
        return str(httpx.URL(end).copy_merge_params(back)) if end else ""

    @property
    def _callback(self) -> str:
        return self._public_url + CALLBACK

    def _asked_scopes(self, known: frozenset[str] | None) -> list[str]:
        """Return ``openid``, those of the others that the provider knows, and those that were given.

        Some providers refuse a scope that they do not know, and ``groups`` is in no standard.
        """
        usual = ["profile", "email"]
        if known is not None:
            usual = [each for each in (*usual, *(() if self._rules.anyone else ("groups",))) if each in known]
        return list(dict.fromkeys(["openid", *usual, *self._scopes]))

    async def _signed_in(self, session: Session, answer: QueryParams, now: float) -> Session:
        """Return the session of whom the provider has signed in.

        :raises SignInFailed: if it has not, or if the rules do not admit them.
        :raises ProviderFailed: if it does not answer as it should.
        """
        attempt = attempt_of(self.signing_key(), session, _only(answer, "state"), now)
        if attempt is None:
            text = (
                f"It began more than {ATTEMPT_SECONDS // 60} minutes ago, or in another browser, or your browser "
                "keeps no cookies of the dashboard."
            )
            raise SignInFailed(_refusal("This sign-in has ended", text, 400))
        await self._check_sender(answer)
        error = _only(answer, "error")
        if error:
            raise self._refused_by_provider(error, answer)
        code = _only(answer, "code")
        if not 0 < len(code) <= _LONGEST_CODE:
            raise SignInFailed(_refusal("Not signed in", f"{self.name} sent no code.", 400))
        claims = await self._claims(code, attempt, now)
        name = self._rules.name(claims)
        if not is_name(name):
            logger.warning("a sign-in was refused: the ID token has no name that can be used")
            text = f"{self.name} does not say who you are in a form that the dashboard can use. Its log says more."
            raise SignInFailed(_refusal("Not allowed", text, 403))
        if not self._rules.may_look(claims):
            logger.warning("a sign-in was refused: %s is in none of the groups", name)
            text = f"{self.name} has signed you in as {name}, who may not look at this dashboard."
            raise SignInFailed(refusal("Not allowed", text, 403, SIGNED_OUT, "Use another account"))
        logger.info("%s has signed in", name)
        return Session.begin(now, signed_in=True, name=name, only_looks=not self._rules.may_act(claims))

    async def _check_sender(self, answer: QueryParams) -> None:
        """Check the provider's name for itself, if it gives one (RFC 9207)."""
        metadata = await self._oidc.metadata()
        named = answer.getlist("iss")
        if named != [self._oidc.issuer] and (named or metadata.names_itself):
            raise SignInFailed(_refusal("Not signed in", f"The answer is not one of {self.name}.", 400))

    def _refused_by_provider(self, error: str, answer: QueryParams) -> SignInFailed:
        said = short_repr(_only(answer, "error_description"))
        logger.warning("a sign-in was refused by the provider: %s %s", short_repr(error), said)
        if error == "access_denied":
            text = f"{self.name} did not sign you in, because you or its rules refused."
            return SignInFailed(_refusal("Not signed in", text, 403))
        code = f" ({error})" if _ERROR.fullmatch(error) else ""
        text = f"{self.name} could not sign you in{code}. The dashboard's log says more."
        return SignInFailed(_refusal("Not signed in", text, 502))

    async def _claims(self, code: str, attempt: Attempt, now: float) -> dict[str, object]:
        """Return the claims of the ID token for a code."""
        try:
            token = await self._oidc.id_token(code, attempt.verifier, self._callback)
        except CodeRefused as refused:
            logger.warning("a sign-in failed: %s for a code", refused)
            if refused.code == "invalid_grant":
                text = "It took too long, or its address was opened twice."
                raise SignInFailed(_refusal("This sign-in has ended", text, 400)) from None
            text = f"{self.name} refuses the dashboard itself ({refused.code}). Tell those who run the dashboard."
            raise SignInFailed(_refusal("Nobody can sign in", text, 502)) from None
        try:
            return await self._verified(token, attempt, now)
        except IdTokenRefused as refused:
            logger.warning("a sign-in was refused: the ID token is not valid: %s", refused)
            text = f"What {self.name} says about you is not valid. The dashboard's log says more."
            raise SignInFailed(_refusal("Not signed in", text, 403)) from None

    async def _verified(self, token: str, attempt: Attempt, now: float) -> dict[str, object]:
        wanted = {"issuer": self._oidc.issuer, "client_id": self._oidc.client_id, "nonce": attempt.nonce}
        try:
            return verified_claims(token, await self._oidc.keys(), **wanted, now=now)
        except UnknownKey:  # the provider may have new keys
            return verified_claims(token, await self._oidc.keys(fresh=True), **wanted, now=now)

    def _away(self, failure: ProviderFailed) -> Page:
        logger.error("nobody can sign in: %s", failure)
        text = f"{self.name} does not answer as it should. Try again in a moment. The dashboard's log says more."
        return _refusal("Nobody can sign in now", text, 503)


def _only(answer: QueryParams, name: str) -> str:
    """Return the value of a parameter; empty if there is none, or several."""
    values = answer.getlist(name)
    return values[0] if len(values) == 1 else ""


def _refusal(title: str, text: str, status: int) -> Page:
    return refusal(title, text, status, SIGN_IN, "Sign in again")
