"""Views as people write them: none of them knows that there are replicas."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.contrib.auth import authenticate, login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse

from .models import Message, Wish


def add_wish(request: HttpRequest) -> HttpResponse:
    """Save, and send on to the list."""
    Wish.objects.create(thing=request.POST["thing"])
    return HttpResponseRedirect("/wishes/")


def add_wish_atomically(request: HttpRequest) -> HttpResponse:
    """The position is known when the transaction is over, behind the last statement."""
    with transaction.atomic():
        Wish.objects.create(thing=request.POST["thing"])
    return HttpResponseRedirect("/wishes/")


def wishes(request: HttpRequest) -> JsonResponse:
    """The list; looks at nobody's session."""
    return JsonResponse(list(Wish.objects.order_by("id").values_list("thing", flat=True)), safe=False)


def mine(request: HttpRequest) -> JsonResponse:
    """The list once more, for somebody: the response varies with the session."""
    request.session.get("seen")
    return wishes(request)


async def wishes_async(request: HttpRequest) -> JsonResponse:
    """The list, by an asynchronous view."""
    return JsonResponse([wish.thing async for wish in Wish.objects.order_by("id")], safe=False)


async def add_wish_async(request: HttpRequest) -> HttpResponse:
    """Save by an asynchronous view."""
    await Wish.objects.acreate(thing=request.POST["thing"])
    return HttpResponseRedirect("/wishes/async/")


async def add_wish_and_wait(request: HttpRequest) -> HttpResponse:
    """Save, and answer when it is too late."""
    await Wish.objects.acreate(thing=request.POST["thing"])
    await asyncio.Event().wait()
    return HttpResponse()


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    """The list, read while it is sent."""

    def lines() -> Iterator[str]:
        yield "wishes:"
        yield from Wish.objects.order_by("id").values_list("thing", flat=True)

    return StreamingHttpResponse(lines())


def streamed_async(request: HttpRequest) -> StreamingHttpResponse:
    """The list, read while it is sent, asynchronously."""

    async def lines() -> AsyncIterator[str]:
        async for wish in Wish.objects.order_by("id"):
            yield wish.thing

    return StreamingHttpResponse(lines())


def unread(request: HttpRequest) -> JsonResponse:
    """The badge."""
    request.session.get("seen")
    return JsonResponse({"unread": Message.objects.filter(is_read=False).count()})


def log_in(request: HttpRequest) -> HttpResponse:
    """Log in; the session lies in the database."""
    user = authenticate(request, username=request.POST["name"], password=request.POST["password"])
    if user is None:
        return HttpResponse(status=403)
    login(request, user)
    return HttpResponseRedirect("/me/")


@login_required(login_url="/login/")
def me(request: HttpRequest) -> JsonResponse:
    """Who is logged in."""
    return JsonResponse({"name": request.user.get_username()})


def touch_session(request: HttpRequest) -> HttpResponse:
    """The session middleware saves when this view is long over."""
    request.session["count"] = request.session.get("count", 0) + 1
    return JsonResponse({"count": request.session["count"]})


def fails(request: HttpRequest) -> HttpResponse:
    """Writes, and then fails."""
    Wish.objects.create(thing=request.POST["thing"])
    raise RuntimeError("after the write")


def user_of(request: HttpRequest) -> Any:
    """For HIGHWATER['KEY']: who is logged in, else who says so in a header."""
    if request.user.is_authenticated:
        return f"user:{request.user.pk}"
    return request.headers.get("X-User")


def names(request: HttpRequest) -> JsonResponse:
    """All users."""
    return JsonResponse(list(User.objects.order_by("id").values_list("username", flat=True)), safe=False)


def page(request: HttpRequest) -> HttpResponse:
    """A page of HTML that writes and reads."""
    Wish.objects.create(thing=request.POST["thing"])
    return HttpResponse(f"<html><body>{Wish.objects.count()}</body></html>")
