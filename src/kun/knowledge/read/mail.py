"""Mail and saved web pages (`.eml`, `.mht`): the header that people read, the text, and what is attached."""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from email import message_from_bytes, policy
from email.header import decode_header
from email.message import Message
from pathlib import Path

from kun.errors import DamagedFile, HoldsNoText, KunError, UnsupportedFormat
from kun.knowledge.folder import printable
from kun.knowledge.read.encoding import decode, decode_as
from kun.knowledge.read.extracted import Extracted
from kun.knowledge.read.html import fragment_text, page_text

_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_MOST_PARTS = 200
_MOST_MAILS = 20_000
_MAILBOX = re.compile(rb"\r?\n\r?\nFrom [^\r\n]{0,200}\d{4}[^\r\n]{0,20}\r?\n(?=[A-Za-z-]+:)")
_MOST_NAME = 60  # characters of an attachment's name as a file
_MOST_HEADER = 2_000  # characters of one header line
_RICHER = 2.0  # the HTML body is read where it says so many times more than the plain one
_WRAPPED = re.compile(r"^(?:=+|-{2,})[ \t]*$", re.MULTILINE)

ReadAttached = Callable[[Path, str, int], Extracted]


def read_mail(file: Path, name: str, read_attached: ReadAttached, depth: int) -> Extracted:
    """A mail: sender, receivers, date and subject as lines, the body, and each attachment under its name.

    Attachments are read as files of their own, within the same limits; what none can read is named in `skipped`. A
    saved web page gives its page alone, a mailbox its mails one after the other. Raises `DamagedFile`, `HoldsNoText`.
    """
    content = file.read_bytes()
    if not content.startswith(b"From "):
        mail = _read(message_from_bytes(content, policy=policy.compat32), file, name, read_attached, depth)
    else:
        texts, skipped = [], dict[str, str]()
        for part in _MAILBOX.split(content.partition(b"\n")[2])[:_MOST_MAILS]:
            message = message_from_bytes(part, policy=policy.compat32)
            extracted = _read(message, file, name, read_attached, depth)
            texts.append(extracted.text)
            skipped |= extracted.skipped
        mail = Extracted("\n".join(texts), "markdown", skipped=skipped)
    if not mail.text.strip():
        raise HoldsNoText(f"{name} holds no text: it is a mail without header and body.", "an empty mail")
    return mail


def _read(message: Message, file: Path, name: str, read_attached: ReadAttached, depth: int) -> Extracted:
    leaves = list(_leaves(message))
    if _is_saved_page(file, message):
        return _saved_page(message, leaves, name)
    subject = _header(message, "Subject")
    lines = [f"{field}: {value}" for field in _SHOWN if (value := _header(message, field))]
    skipped: dict[str, str] = {}
    parts = [f"# {subject}" if subject else "", "\n".join(lines), _body(leaves, name)]
    with tempfile.TemporaryDirectory(prefix="kun-mail-") as folder:
        for number, part in enumerate(_attachments(leaves)):
            parts.append(_attached(part, Path(folder), number, read_attached, depth, skipped))
    text = "\n\n".join(part.strip("\n") for part in parts if part.strip())
    return Extracted(text + "\n", "markdown", skipped=skipped)


def _header(message: Message, field: str) -> str:
    """All headers of a name, in letters, as they came: the library would replace raw bytes."""
    values = [value for name, value in message.raw_items() if name.lower() == field.lower()]
    return ", ".join(header_text(value) for value in values)


def header_text(value: object) -> str:
    """A header in letters: encoded words decoded, raw bytes by the likeliest encoding, on one line.

    Words that were cut in the middle of a character are joined before they are decoded.
    """
    raw = str(value).encode("utf-8", "surrogateescape")
    try:
        source = raw.decode()
    except UnicodeDecodeError:
        source = decode(raw, "a header")
    with suppress(Exception):  # a malformed word stays as it is written
        pieces: list[tuple[bytes, str | None]] = []
        for words, charset in decode_header(source):
            piece = words.encode("utf-8", "replace") if isinstance(words, str) else words
            of = charset if charset or not isinstance(words, str) else "utf-8"
            if pieces and pieces[-1][1] == of:
                pieces[-1] = (pieces[-1][0] + piece, of)
            else:
                pieces.append((piece, of))
        source = "".join(decode_as(words, charset or "utf-8", "a header") for words, charset in pieces)
    return " ".join(source.split())[:_MOST_HEADER]


def _leaves(message: Message) -> Iterator[Message]:
    """The parts that hold something themselves; an attached mail is one of them, and stays closed."""
    count = 0
    waiting = [message]
    while waiting:
        part = waiting.pop(0)
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            waiting = [child for child in part.get_payload() if isinstance(child, Message)] + waiting
            continue
        count += 1
        if count > _MOST_PARTS:
            return
        yield part


def _is_saved_page(file: Path, message: Message) -> bool:
    return (
        file.suffix.lower() in {".mht", ".mhtml"}
        or message["Snapshot-Content-Location"] is not None
        or "<Saved by" in _header(message, "From")
    )


def _saved_page(message: Message, leaves: list[Message], name: str) -> Extracted:
    pages = [part for part in leaves if part.get_content_type() in {"text/html", "application/xhtml+xml"}]
    if not pages:
        texts = [_text(part, name) for part in leaves if part.get_content_maintype() == "text"]
        if not any(text.strip() for text in texts):
            raise DamagedFile(f"{name} is damaged: no page can be found in it.")
        return Extracted("\n\n".join(texts), "text")
    text, menus = page_text(_text(pages[0], name), name)
    if not text.strip():
        raise HoldsNoText(
            f"{name} is all menu: links and navigation, and no text of its own."
            if menus
            else f"{name} holds no text.",
            "a page without text",
        )
    title = _header(message, "Subject")
    untitled = title and title not in text[:500]
    return Extracted(f"# {title}\n\n{text}" if untitled else text, "markdown")


def _body(leaves: list[Message], name: str) -> str:
    """The text of a mail: the plain one, or the HTML one where that says much more, as it is seen."""
    own = [part for part in leaves if not _is_attached(part)]
    plain = "\n\n".join(_text(part, name) for part in own if part.get_content_type() == "text/plain").strip()
    pages = [part for part in own if part.get_content_type() == "text/html"]
    seen = "\n\n".join(fragment_text(_text(part, name), name) for part in pages if _text(part, name).strip())
    if seen.strip() and len(seen) > _RICHER * len(plain):
        return seen
    # a signature's dashes would make a heading of the line above
    return _WRAPPED.sub(lambda match: "\\" + match[0], plain)


def _text(part: Message, name: str) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    charset = part.get_content_charset("") or ""
    try:
        return decode_as(content, charset, name)
    except UnsupportedFormat:  # damaged on its way: what can be read of a mail is read
        return content.decode("utf-8", "replace").replace("\0", "")


def _is_attached(part: Message) -> bool:
    if part.get_content_disposition() == "attachment" or part.get_content_type() == "message/rfc822":
        return True
    named = bool(part.get_filename()) and part["Content-ID"] is None
    return named or part.get_content_type() not in {"text/plain", "text/html"}


def _attachments(leaves: list[Message]) -> Iterator[Message]:
    """The attachments, without the pictures and styles that the body shows itself."""
    for part in leaves:
        shown_inside = part["Content-ID"] is not None and part.get_content_disposition() != "attachment"
        signature = part.get_content_type() in {"application/pgp-signature", "application/pkcs7-signature"}
        if _is_attached(part) and not shown_inside and not signature:
            yield part


def _attached(
    part: Message, folder: Path, number: int, read_attached: ReadAttached, depth: int, skipped: dict[str, str]
) -> str:
    """The text of an attachment under its name as a heading; nothing, and a line in `skipped`, where it has none."""
    name = printable(header_text(part.get_filename() or "")) or f"attachment {number + 1}"
    if part.get_content_type() == "message/rfc822" and Path(name).suffix.lower() != ".eml":
        name = f"{name}.eml"
    file_name = re.sub(r"[/\\\0]", "_", name)[-_MOST_NAME:]
    file = folder / str(number) / ("attachment" if file_name in {".", ".."} else file_name)
    try:
        file.parent.mkdir()
        file.write_bytes(_content(part))
        extracted = read_attached(file, name, depth)
    except KunError as error:
        skipped[name] = str(error)
        return ""
    except Exception as error:  # one bad attachment does not end the mail
        skipped[name] = f"{name} is damaged and cannot be read ({type(error).__name__})."
        return ""
    skipped |= {f"{name}: {inner}": what for inner, what in extracted.skipped.items()}
    body = extracted.text
    if extracted.kind == "code":
        body = f"```\n{body.strip(chr(10))}\n```"
    return f"## {name}\n\n{_lowered(body) if extracted.kind == 'markdown' else body}"


def _content(part: Message) -> bytes:
    """The bytes of an attachment, or of the mail that is attached."""
    if part.get_content_type() != "message/rfc822":
        payload = part.get_payload(decode=True)
        return payload if isinstance(payload, bytes) else b""
    inner = part.get_payload()
    return inner[0].as_bytes() if isinstance(inner, list) and inner and isinstance(inner[0], Message) else b""


def _lowered(markdown: str) -> str:
    """Headings two levels down, so that they stand below the attachment's name."""
    return re.sub(r"^(#{1,4})(?=[ \t])", r"##\1", markdown, flags=re.MULTILINE)
