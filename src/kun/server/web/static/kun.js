// What must happen in the browser itself: copying, keys, and scrolling along with an answer.
(() => {
  const copyText = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], .copy-code");
    if (!button) return;
    const isCode = button.classList.contains("copy-code");
    await copyText(isCode ? button.closest(".code").querySelector("code").textContent : button.dataset.copy);
    button.classList.add("copied");
    if (isCode) button.textContent = window.kunWords.copied;
    setTimeout(() => {
      button.classList.remove("copied");
      if (isCode) button.textContent = window.kunWords.copy;
    }, 1500);
  });

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      document.querySelector("#new-chat")?.click();
    }
    const isOver = document.querySelector(".q-dialog, .q-menu");
    if (event.key === "Escape" && !event.isComposing && !isOver) {
      const stop = document.querySelector("#stop");
      if (stop && stop.offsetParent !== null) stop.click();
    }
  });

  const markCurrent = () => {
    for (const link of document.querySelectorAll(".place, .chat-link")) {
      const path = decodeURI(location.pathname);
      const target = decodeURI(new URL(link.href).pathname);
      const isHere = path === target || (["/knowledge", "/feedback"].includes(target) && path.startsWith(target + "/"));
      if (isHere !== link.hasAttribute("aria-current")) link.toggleAttribute("aria-current", isHere);
      if (isHere) link.setAttribute("aria-current", "page");
    }
  };
  const watchDrawer = () => {
    const drawer = document.querySelector(".kun-drawer");
    if (!drawer) return setTimeout(watchDrawer, 100);
    markCurrent();
    new MutationObserver(markCurrent).observe(drawer, { childList: true, subtree: true });
  };
  watchDrawer();

  const nearEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 160;
  let follow = true;
  addEventListener("scroll", () => { follow = nearEnd(); }, { passive: true });
  window.kunScroll = (force) => {
    if (force) follow = true;
    requestAnimationFrame(() => follow && scrollTo({ top: document.documentElement.scrollHeight }));
  };
  const watch = () => {
    const chat = document.querySelector("#chat");
    if (!chat) return setTimeout(watch, 100);
    new MutationObserver(() => window.kunScroll(false)).observe(chat, { childList: true, subtree: true, characterData: true });
  };
  watch();
})();
