"""Pages at which people come in: signing in, the one-time link, the account. They work without scripts."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app import accounts, sign_in
from app.db import Database
from app.errors import Conflict, Forbidden, HyojunError, InvalidInput, NotFound, NotSignedIn, TooMany, Unavailable
from app.oidc import LOGIN_SECONDS, Provider
from app.sign_in import Lifetimes, csrf_token
from app.web.access import Form, address_of, check_same_site, cookie_name, session_secret
from app.web.layout import fill, page
from app.web.outcome import status_of
from schemas.access import Person, Role
from schemas.review import AuditAction

TITLE = "標準 Hyojun"
ROLE_NAMES = {Role.INTEGRATOR: "連携担当", Role.REVIEWER: "確認者", Role.ADMIN: "管理者"}
_FORM_COOKIE = "hyojun-form"
_OIDC_COOKIE = "hyojun-oidc"
_OIDC_CALLBACK = "/login/oidc/callback"
# What a person reads in place of our English; by the beginning of the message.
_WORDS = (
    ("the name or the password", "ログイン名またはパスワードが違います。"),
    ("the present password", "現在のパスワードが違います。"),
    ("password: must have at least", "パスワードは 12 文字以上にしてください。"),
    ("password: must have at most", "パスワードが長すぎます。"),
    ("password: is among", "このパスワードは推測されやすいため使えません。別のものにしてください。"),
    ("login:", "ログイン名は半角の英小文字か数字で始め、英小文字・数字・. _ @ - を 64 文字まで使えます。使用中の名前は選べません。"),
    ("name:", "氏名を 100 文字以内で入力してください。"),
    ("the two new passwords", "新しいパスワードの二つの入力が一致しません。"),
    ("there is an administrator", "管理者は既に登録されています。"),
    ("the OpenID provider states no role", "このシステムの役割が割り当てられていません。管理者に連絡してください。"),
    ("this account is disabled", "このアカウントは停止されています。管理者に連絡してください。"),
    ("the request comes from", "ページを読み込み直して、もう一度入力してください。"),
    ("the form is out of date", "ページを読み込み直して、もう一度入力してください。"),
)


@dataclass(frozen=True)
class LoginPages:
    """`provider`: of OpenID Connect; None where people have local accounts alone."""

    database: Database
    lifetimes: Lifetimes
    provider: Provider | None = None

    def router(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.get("/login")(self.ask)
        router.post("/login")(self.enter)
        router.get("/setup")(self.ask_new)
        router.post("/setup")(self.choose)
        router.post("/logout")(self.leave)
        router.get("/account")(self.account)
        router.post("/account/password")(self.change)
        if self.provider is not None:
            router.get("/login/oidc")(self.away)
            router.get(_OIDC_CALLBACK)(self.back)
        return router

    # --- signing in ---------------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> Response:
        return self._login_page(request)

    def enter(self, request: Request, form: Form) -> Response:
        try:
            check_same_site(request)
            _check_form(request, form)
            secret = sign_in.sign_in(
                self.database, form.get("login", ""), form.get("password", ""), address=address_of(request),
                lifetimes=self.lifetimes, former=session_secret(request),
            )  # fmt: skip
        except (NotSignedIn, Forbidden, TooMany) as error:
            return self._login_page(request, error)
        return self._signed_in(request, secret)

    def away(self, request: Request) -> Response:
        """To the OpenID provider."""
        assert self.provider is not None
        callback = str(request.base_url).rstrip("/") + _OIDC_CALLBACK
        try:
            with self.database.session_scope() as session:
                target, state = self.provider.begin(session, callback)
        except Unavailable as error:
            return self._login_page(request, error)
        response = RedirectResponse(target, 303)
        _set_cookie(request, response, _OIDC_COOKIE, state, seconds=LOGIN_SECONDS)
        return response

    def back(self, request: Request, state: str = "", code: str = "") -> Response:
        """From the OpenID provider."""
        assert self.provider is not None
        kept = request.cookies.get(cookie_name(request, _OIDC_COOKIE), "")
        try:
            # Only the browser that was sent away may come back, so that nobody is signed in as somebody else unawares.
            if not state or not secrets.compare_digest(kept.encode(), state.encode()):
                raise NotSignedIn("this sign-in began in another browser")
            person = self.provider.finish(self.database, state, code)
            with self.database.session_scope() as session:
                secret = sign_in.open_session(session, person.id, self.lifetimes, former=session_secret(request))
        except (NotSignedIn, Forbidden, Unavailable) as error:
            return self._login_page(request, error)
        return self._signed_in(request, secret)

    def leave(self, request: Request) -> Response:
        secret = session_secret(request)
        if secret is not None:
            with self.database.session_scope() as session:
                sign_in.sign_out(session, secret)
        response = RedirectResponse("/login", 303)
        _set_cookie(request, response, "hyojun", "", seconds=0)
        return response

    def _login_page(self, request: Request, error: HyojunError | None = None) -> Response:
        with self.database.session_scope() as session:
            begun = accounts.has_admin(session)
        notice = "" if error is None else _notice(error)
        if not begun:
            notice += (
                '<p class="error">管理者がまだいません。サーバーの操作者は <code>hyojun users admin-link</code> '
                "で管理者を登録するリンクを表示できます。</p>"
            )
        further = '<p><a href="/login/oidc">病院のアカウントでサインイン</a></p>' if self.provider else ""
        token = request.cookies.get(cookie_name(request, _FORM_COOKIE)) or secrets.token_urlsafe(16)
        body = fill("login.html", {"form_token": token}, {"notice": notice, "further": further})
        response = _page(f"サインイン - {TITLE}", body, error)
        _set_cookie(request, response, _FORM_COOKIE, token, same_site="strict")
        return response

    # --- passwords ----------------------------------------------------------------------------------------------------

    def ask_new(self, request: Request, token: str = "") -> Response:
        return self._setup_page(token, {})

    def choose(self, request: Request, form: Form) -> Response:
        token = form.get("token", "")
        try:
            check_same_site(request)
            _check_again(form)
            with self.database.session_scope() as session:
                accounts.use_link(
                    session, token, form.get("password", ""), login=form.get("login", ""), name=form.get("name", "")
                )
        except (InvalidInput, Forbidden, NotFound, Conflict) as error:
            return self._setup_page(token, form, error)
        done = '<p>設定しました。<a href="/login">サインイン</a>してください。</p>'
        return page(TITLE, f"<h1>標準 <small>Hyojun</small></h1>{done}")

    def _setup_page(self, token: str, form: Mapping[str, str], error: HyojunError | None = None) -> Response:
        try:
            with self.database.session_scope() as session:
                owner = accounts.link_owner(session, token)
        except NotFound as gone:
            used = '<p class="error">このリンクは使用済みか、期限が切れています。</p><p><a href="/login">サインイン</a></p>'
            return page(TITLE, f"<h1>標準 <small>Hyojun</small></h1>{used}", status_of(gone))
        names = "" if owner else fill("setup_names.html", {key: form.get(key, "") for key in ("login", "name")})
        heading = f"{owner.name} さんのパスワードの設定" if owner else "最初の管理者の登録"
        notice = "" if error is None else _notice(error)
        body = fill("setup.html", {"token": token, "heading": heading}, {"names": names, "notice": notice})
        return _page(f"パスワードの設定 - {TITLE}", body, error)

    def account(self, request: Request) -> Response:
        return self._account_page(request)

    def change(self, request: Request, form: Form) -> Response:
        request.state.audit = {"action": AuditAction.ADMIN}
        try:
            _check_again(form)
            secret = sign_in.change_password(
                self.database, self._person(request), form.get("present", ""), form.get("password", ""),
                address=address_of(request), lifetimes=self.lifetimes,
            )  # fmt: skip
        except (InvalidInput, Forbidden, TooMany) as error:
            return self._account_page(request, error)
        return self._signed_in(request, secret)

    def _account_page(self, request: Request, error: HyojunError | None = None) -> Response:
        person, csrf = self._person(request), csrf_token(session_secret(request) or "")
        values = {"csrf_token": csrf, "login": person.login}
        parts = {
            "notice": "" if error is None else _notice(error),
            "password": "" if person.external else fill("password.html", values),
        }
        body = fill("account.html", values | {"name": person.name, "roles": role_names(person.roles)}, parts)
        return _page(f"アカウント - {TITLE}", body, error)

    def _signed_in(self, request: Request, secret: str) -> Response:
        with self.database.session_scope() as session:
            request.state.principal = sign_in.principal_of_session(session, secret, self.lifetimes)
        response = RedirectResponse("/", 303)
        _set_cookie(request, response, "hyojun", secret)
        return response

    def _person(self, request: Request) -> Person:
        with self.database.session_scope() as session:
            return sign_in.person_of_session(session, session_secret(request) or "", self.lifetimes)


def role_names(roles: tuple[Role, ...]) -> str:
    return "・".join(ROLE_NAMES[role] for role in roles) or "役割なし"


def _page(title: str, body: str, error: HyojunError | None) -> Response:
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, TooMany) else {}
    return page(title, body, 200 if error is None else status_of(error), headers)


def _notice(error: HyojunError) -> str:
    if isinstance(error, TooMany):
        words = f"失敗が続いたため、しばらく受け付けません。約 {error.seconds} 秒後にもう一度試してください。"
    elif isinstance(error, Unavailable):
        words = "病院の認証サーバーから応答がありません。しばらくしてから試してください。"
    else:
        words = next((said for begin, said in _WORDS if str(error).startswith(begin)), "サインインできませんでした。")
    return f'<p class="error" role="alert">{words}</p>'


def _check_form(request: Request, form: Mapping[str, str]) -> None:
    """The form was shown in this browser: nobody is signed in by a page of somebody else. Raises: Forbidden."""
    kept = request.cookies.get(cookie_name(request, _FORM_COOKIE), "")
    if not kept or not secrets.compare_digest(kept.encode(), form.get("form_token", "").encode()):
        raise Forbidden("the form is out of date; load the page again")


def _check_again(form: Mapping[str, str]) -> None:
    if form.get("password", "") != form.get("again", ""):
        raise InvalidInput("the two new passwords differ")


def _set_cookie(
    request: Request, response: Response, name: str, value: str, *, seconds: int | None = None, same_site: str = "lax"
) -> None:
    """Without `seconds` it lasts as long as the browser; the session itself ends in the database."""
    response.set_cookie(
        cookie_name(request, name), value, max_age=seconds, path="/", httponly=True,
        secure=request.url.scheme == "https", samesite="strict" if same_site == "strict" else "lax",
    )  # fmt: skip
