"""The shop's pages. None of them knows that there are replicas."""

import json

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from .jobs import praise
from .lab import lags, set_lag
from .models import Message, Product, Wish
from .switch import COOKIE


def home(request: HttpRequest) -> HttpResponse:
    """All products."""
    return render(request, "store/home.html", {"products": Product.objects.order_by("id")})


@login_required
def wishlist(request: HttpRequest) -> HttpResponse:
    """One's wishes."""
    wishes = Wish.objects.filter(owner=request.user).order_by("id").select_related("product")
    return render(request, "store/wishlist.html", {"wishes": wishes})


@require_POST
@login_required
def wish(request: HttpRequest, product_id: int) -> HttpResponse:
    """Save, queue a job that looks at what was saved, and send on to the list."""
    product = get_object_or_404(Product, pk=product_id)
    made, is_new = Wish.objects.get_or_create(owner_id=request.user.pk, product_id=product.pk)
    if is_new:
        praise.enqueue(made.pk)
    return redirect("wishlist")


@require_POST
@login_required
def forget(request: HttpRequest, wish_id: int) -> HttpResponse:
    """Take a wish from the list."""
    Wish.objects.filter(pk=wish_id, owner=request.user).delete()
    return redirect("wishlist")


@login_required
def mail(request: HttpRequest) -> HttpResponse:
    """One's messages; POST sends one to oneself."""
    if request.method == "POST":
        Message.objects.create(to_id=request.user.pk, text=request.POST.get("text") or "Hello.")
        return redirect("mail")
    return render(request, "store/mail.html", {"mail": Message.objects.filter(to=request.user).order_by("-id")})


@require_POST
@login_required
def read(request: HttpRequest, message_id: int) -> HttpResponse:
    """Mark a message as read."""
    Message.objects.filter(pk=message_id, to=request.user).update(is_read=True)
    return redirect("mail")


async def unread(request: HttpRequest) -> JsonResponse:
    """The badge, which each page asks for twice a second."""
    user = await request.auser()
    count = await Message.objects.filter(to_id=user.pk, is_read=False).acount() if user.is_authenticated else None
    return JsonResponse({"unread": count})


@require_POST
def switch(request: HttpRequest) -> HttpResponse:
    """The switch in the head of the page."""
    response = redirect(request.META.get("HTTP_REFERER") or "home")
    response.set_cookie(COOKIE, "article" if request.POST.get("router") == "article" else "highwater")
    return response


@require_POST
def lag(request: HttpRequest) -> JsonResponse:
    """The sliders: how late each replica shows what was written."""
    if not settings.LAB:
        raise Http404("there is no cluster to handle")
    for replica, seconds in json.loads(request.body).items():
        set_lag(replica, float(seconds))
    return JsonResponse(lags())
