"""The native engine's face: argument checks and buffers, no policy."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import final

BLOCK_BYTES: int
TMP_PREFIX: bytes
"""Every temporary's name starts with this; what is found under it later, with no engine running, is left over."""

@final
class KeyTable:
    """Packed table of objects: key, size, identity, mtime_ns, mode; about 48 bytes a row beside the texts.

    Append-only. Rows keep their index. Sharing it with running batches is safe. An S3 identity is the ETag, and behind
    a NUL the version id where the object is pinned to one (csrc/identity.h).
    """

    def __init__(self) -> None: ...
    def append(self, key: bytes, size: int, identity: bytes, mtime_ns: int = 0, mode: int = 0) -> int:
        """Add a row and return its index. ValueError: size < 0, a text over 65,535 bytes."""
    def move(self, source: KeyTable) -> None:
        """Append all rows of ``source``, which is empty then. OSError: a batch still uses it (EBUSY)."""
    def __len__(self) -> int: ...
    def key(self, row: int) -> bytes: ...
    def size(self, row: int) -> int: ...
    def identity(self, row: int) -> bytes: ...
    def mtime_ns(self, row: int) -> int: ...
    def mode(self, row: int) -> int: ...
    def rows(self) -> Iterator[tuple[bytes, int, bytes, int, int]]:
        """(key, size, identity, mtime_ns, mode) of every row, in order."""
    def lines(self, row: int) -> tuple[bytes, int]:
        """Rows from this one on as "key NUL size NUL identity LF", up to 1 MiB, and the row that follows; empty behind
        the last one. Releases the GIL.
        """
    def sum_sizes(self, rows: array[int]) -> int:
        """Bytes of these rows. IndexError."""
    def part_rows(self, rows: array[int], part_bytes: int) -> tuple[array[int], array[int]]:
        """Rows apart: those to fetch in one request, and those above part_bytes that have an identity. IndexError."""
    def multipart_rows(self, rows: array[int], least_part_bytes: int) -> tuple[array[int], array[int]]:
        """Rows apart: second those that came in several parts, as their ETag tells, of at least ``least_part_bytes``
        each but for the last one. IndexError.
        """
    def marked_rows(self, rows: Sequence[int], mark: bytes) -> tuple[array[int], array[int]]:
        """The rows whose identity does not hold ``mark``, and those whose does, in order. IndexError."""
    def archived_rows(self) -> array[int]:
        """The rows whose listing said that they are archived and not restored, ascending, as array("I")."""
    def keys(self, rows: array[int]) -> list[bytes]:
        """The keys of these rows. IndexError."""
    def files(self, least: int, most: int, since_ns: int) -> tuple[array[int], int]:
        """Rows of files with sizes within these two and an mtime_ns since the third; how many rows mark directories."""
    def select(self, rows: array[int]) -> KeyTable:
        """A table of these rows alone, in this order. IndexError."""
    total_bytes: int

@final
class KeyOrder:
    """The rows of a table by key, in byte order; 4 bytes a row unless the table is in order. Releases the GIL.

    ``checkpoint`` is called between the steps of sorting, and may end it by raising.
    """

    def __init__(self, table: KeyTable, checkpoint: Callable[[], None] | None = None) -> None: ...
    def find(self, key: bytes) -> int:
        """A row of this key; -1: there is none."""

NAME_DOUBTFUL: int
NAME_GOOD: int
NAME_DIRECTORY: int
NAME_TWICE: int

def judge_keys(table: KeyTable, verdicts: bytearray, start: int, count: int, limit: int) -> None:
    """NAME_GOOD for each of these rows whose key is plainly a path of at most limit bytes, else NAME_DOUBTFUL (see
    csrc/names.h). ``verdicts`` has a byte for each row of the table. Releases the GIL. ValueError: it has not.
    """

def clash_keys(order: KeyOrder, verdicts: bytearray) -> int:
    """Among the rows that are NAME_GOOD, mark as NAME_DIRECTORY or NAME_TWICE those that exclude each other, and count
    them. Releases the GIL.
    """

def rows_judged(verdicts: bytearray, verdict: int) -> array[int]:
    """The rows with this verdict, ascending, as array("I")."""

@final
class Entries:
    """What is known of each row of a table: digest, mtime_ns, ctime_ns, mode, grade, standing; 40 bytes a row.

    ``capacity``: room for rows that come later; the table's rows if left out. Different rows may be written by
    different threads. Every ``row`` out of range is an IndexError.
    """

    def __init__(self, table: KeyTable, capacity: int | None = None) -> None: ...
    table: KeyTable
    def recorded(self, row: int) -> tuple[bytes, int, bytes, bytes, int, int, int, str] | None:
        """(path, size, identity, digest, mtime_ns, ctime_ns, mode, grade) of a file in place, or recalled with the
        row's size and identity.
        """
    def stands(self) -> array[int]:
        """The rows whose files are in place, ascending, as array("I")."""
    def put(
        self, row: int, digest: bytes, mtime_ns: int, ctime_ns: int, mode: int, grade: str, why: str | None = None
    ) -> None:
        """The file of this row is in place. ``why`` its grade is not A, as in `whys`; None: as the grade suggests.
        ValueError: a digest, grade or reason that is none.
        """
    def take(
        self, batch: Batch, indices: Sequence[int], *, verified: str, pinned: str, unpinned: str
    ) -> array[int]:
        """These finished objects of a batch are in place, with the grade ``verified`` where the source announced a
        checksum and the bytes had it, else ``pinned``, or ``unpinned`` where the row has no identity.
        Returns their rows, as array("I"). ValueError: not objects of this table.
        """
    def vouch(self, row: int, same: bool) -> None:
        """Whether the file of a doubtful row has been found to be what was recorded. ValueError: not doubtful."""
    def settle(self) -> None:
        """What was recalled stands, unseen: entries that are only kept, of no table that is compared."""
    def forget(self) -> None:
        """Nothing is known of any row."""
    def grades(self) -> dict[str, int]:
        """Grade to files in place, in order; no zeros. Releases the GIL."""
    def whys(self) -> dict[str, int]:
        """Why files in place are not of grade A, to how many; a key of `stager.model.UNVERIFIED`. Releases the GIL."""
    def below(self, grade: str, most: int) -> tuple[int, array[int]]:
        """How many files in place do not reach a grade, and the first rows of them. Releases the GIL."""
    def lines(self, row: int) -> tuple[bytes, int, int]:
        """Manifest lines of what is in place from this row on, up to 1 MiB, the row that follows, and how many lines;
        empty behind the last one. Releases the GIL.
        """
    def journal(self, rows: array[int]) -> bytes:
        """The journal records of these rows, one after the other."""
    def agreeing(self, recorded: Entries) -> array[int]:
        """Rows whose files are in place and that ``recorded`` has recalled with the same file, as array("I").
        ValueError: of another table.
        """

@final
class Blobs:
    """Puts the files of Git blobs in place as they come out of ``git cat-file --batch``, each hashed first as git does
    (csrc/blobs.h). The descriptors are the caller's. One thread at a time.
    """

    def __init__(self, fd: int, *, tmp_fd: int, root_fd: int) -> None: ...
    def land(self, entries: Entries, rows: array[int]) -> tuple[int, int]:
        """The files of these rows, in the order in which git was asked for their identities; their entries stand then.
        How many came whole, and why the next one did not: 0, EPIPE (git wrote no more), EBADMSG (another object),
        EILSEQ (not the bytes of its id), ESTALE (not the row's size), or the errno of what failed. Releases the GIL.
        """

@final
class Lend:
    """Files of a kept tree, given to another one on this host, with shared blocks where the file system can
    (csrc/lend.h). ``kept``: what was recorded of the tree at ``kept_fd``. The descriptors are the caller's. One call of
    `give` at a time, with the work of which ``threads`` are busy, at most 8. ``keep_cached_bytes``: of copies, so much
    stays in the page cache; 0: all.
    """

    def __init__(
        self, kept: Entries, kept_fd: int, *, tmp_fd: int, root_fd: int, keep_mtime: bool, threads: int = 1,
        keep_cached_bytes: int = 0,
    ) -> None: ...
    kept: Entries
    def give(self, entries: Entries, rows: array[int]) -> tuple[array[int], int, int]:
        """The files of the first of these rows, as many as hold 256 MiB, or one for each thread; their entries, of the
        same table, stand then. Which are in place; why one is not (0: the call's are, the first ones, at least one;
        ESTALE: it is not what was recorded; EBADMSG: other bytes; ECANCELED; else the errno of the destination); and
        how many bytes are shared. Releases the GIL. ValueError: another table. IndexError.
        """
    def stop(self) -> None:
        """From any thread: `give` ends soon, with ECANCELED."""

@final
class Recall:
    """Reads manifest lines or journal records (csrc/record.h) into entries; ``trusted``, or else doubtful.

    With the table's order, records of files that the table does not have are passed over. With None, the table is a new
    one and gets a row for each. The length is how many records were read. ValueError: the order is another table's.
    """

    def __init__(self, entries: Entries, order: KeyOrder | None, *, trusted: bool) -> None: ...
    def __len__(self) -> int: ...
    passed: int  # of them, those of files that the table does not have
    def lines(self, lines: bytes) -> None:
        """Whole manifest lines. Releases the GIL. ValueError: one that is none, one that is there twice, or more than
        the entries have room for.
        """
    def journal(self, data: bytes) -> int:
        """Journal records as far as they are whole and right, a later one in place of an earlier; the bytes they are.
        Releases the GIL.
        """

FOUND_SAME: int
FOUND_MISSING: int
FOUND_KIND: int
FOUND_SIZE: int
FOUND_CONTENT: int
FOUND_EXECUTABLE: int
FOUND_UNREADABLE: int

def recheck(
    entries: Entries, rows: array[int], root_fd: int, *, stands: bool, from_disk: bool = False
) -> list[tuple[int, int, int]]:
    """Hash the files of these rows again: (row, FOUND_*, errno) of each that is not as recorded (csrc/recheck.h).

    The others stand afterwards, or are trusted without ``stands``, and their recorded times are the file's.
    ``from_disk``: not what the page cache holds of them. Releases the GIL. IndexError; ValueError: a row of which
    nothing is recorded.
    """

OUTCOME_HASH: int
OUTCOME_BLOCKED: int

@final
class Comparison:
    """Rows against what was recorded of them and what lies below root_fd (-1: nothing does); see csrc/compare.h."""

    def __init__(self, entries: Entries, *, root_fd: int, block_bytes: int, required: str | None = None) -> None:
        """``required``: the grade below which what was recorded is fetched again."""
    def compare(self, rows: array[int]) -> tuple[array[int], list[tuple[int, int]]]:
        """Rows to fetch, as array("I"), and (row, outcome) of others that do not stand: OUTCOME_HASH (`recheck` the
        file, compare again), or OUTCOME_BLOCKED: counted as fetched, but something of another kind stands in the way.
        Releases the GIL. OSError, with the path.
        """
    def unknown_directories(self, order: KeyOrder) -> list[bytes]:
        """Directories above what is to be fetched and above nothing that was recorded. ValueError as `directories`."""
    def directories(self, order: KeyOrder) -> int:
        """Directories above what is to be fetched. Releases the GIL. ValueError: the order is another table's."""
    total_bytes: int
    kept: int
    fetched: int
    fetched_bytes: int
    disk_bytes: int  # what is fetched, in whole blocks, less the blocks of the files it replaces

@final
class ListPage:
    """One scanned ListObjectsV2 answer; its rows are already in the table given to `Batch.scan_list`."""

    count: int
    truncated: bool
    token: bytes  # as it stands: EncodingType does not cover it; b"" when absent
    in_order: bool  # keys strictly ascending in byte order, above the last one of the table before and ``after``
    encoded: bool
    archived: int  # rows whose storage class cannot be read without a restore, and that were not said to be restored

@final
class Failure:
    """Why one request failed. ``kind`` is one of the STG_FAIL_* names in csrc/failure.h, lower case without prefix:
    "errno" (a local call: see ``errno`` and ``where``), "connect" (no address took the connection), "proxy" (the
    proxy was not reached, or does not serve: see ``where``, ``status``, ``message``), "tls", "reset", "stall",
    "protocol" (not HTTP as we accept it), "http" (a status that is no success: see ``status``, ``code``),
    "identity" (ETag, range, length or coding is not what was pinned: see ``where``), "cancelled".
    """

    index: int
    kind: str
    errno: int
    where: str  # which step: create write close rename, connect tunnel handshake, head body answer, etag length...
    status: int
    code: str  # the S3 error code from the body, or ""
    message: str  # bounded, printable
    request_id: str
    region: str  # x-amz-bucket-region, or <Region> of the body
    retry_after_s: int  # -1: none
    date: str
    location: str  # of a redirect, as it stands, or ""; it may hold a credential and is never shown

@final
class Endpoint:
    """Where requests go. Addresses are (family, packed address), at most 64; the engine resolves nothing.

    ``proxy``: the port of an HTTP proxy, the value of Proxy-Authorization ("": none), and its name where it is reached
    over TLS, else None; the addresses are then the proxy's. With ``tls`` it is asked for a tunnel, without it gets the
    requests.
    ValueError: no address, one that is none, a host that is no name with ``tls`` or ``proxy``, ``verify`` without
    ``ca_file``, an authorization that cannot be sent. FileNotFoundError: the CA file cannot be read or holds no
    certificate. ``certificate``: paths of the client's and of its key, in PEM, for the server alone and when it asks;
    FileNotFoundError: they cannot be read, OSError (EKEYREJECTED): they cannot be used, or only with a password.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        host: str,
        port: int,
        tls: bool,
        addresses: Sequence[tuple[int, bytes]],
        ca_file: str | None = None,
        verify: bool = True,
        proxy: tuple[int, str, str | None] | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None: ...
    def update(self, addresses: Sequence[tuple[int, bytes]]) -> None: ...
    def pace(self, *, connections: int, requests_per_second: float) -> None:
        """From now on, within the engine's limits: so many requests at once and a second; 0 is no limit of its own.
        Idle connections beyond it are closed, busy ones finish. ValueError: a rate below 0 or over a milliard.
        """
    def used(self) -> dict[str, int]:
        """Requests ``sent`` and bytes ``received`` since it was made; connections ``open`` and ``busy`` now."""

@final
class Signer:
    """SigV4 at send time. Credentials are one immutable generation, swapped atomically."""

    def __init__(
        self, *, access_key: str, secret_key: str, token: str | None, region: str, service: str = "s3"
    ) -> None: ...
    def update(self, *, access_key: str, secret_key: str, token: str | None) -> None: ...
    def set_clock_skew(self, seconds: int) -> None:
        """Add this to the local clock when signing."""

    def sign(
        self, method: str, path: bytes, query: bytes, headers: Sequence[tuple[str, str]], unix_s: int
    ) -> list[tuple[str, str]]:
        """The headers to add; for the tests that compare with botocore."""

@final
class Targets:
    """Where single objects are asked for and what they are: (request target, header fields, SHA-256) of each, instead
    of what a template and a row's key say. Immutable. A request with a target is not signed. ValueError: a target that
    is no absolute path in ASCII, without a fragment; a field that cannot be sent, or that only the engine may send
    (Host, Range, what frames a message); more than 8 KiB of either; a digest that is not of 32 bytes.
    """

    def __init__(self, items: Sequence[tuple[bytes, Sequence[tuple[str, str]], bytes]]) -> None: ...
    def __len__(self) -> int: ...

@final
class Template:
    """What every request of a source carries. ``path_prefix`` is the encoded path before the key ("/bucket/" or
    "/"); ``headers`` are constant extras. One template, so no range can miss one.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        signer: Signer | None,
        *,
        host_header: str,
        path_prefix: bytes,
        headers: Sequence[tuple[str, str]] = (),
        key_prefix: bytes = b"",  # raw; prepended to a row's key to make the object key
        etags: str = "none",  # which are compared as MD5s: "none", "plain", or of "parts" too
        required: str | None = None,  # the grade that objects must reach: else they fail as "identity", where "grade"
        refuse_parts: bool = False,  # whole objects of which a digest of parts is announced fail so too, where "parts"
    ) -> None: ...

@final
class Batch:
    """Requests handed over together; index i of a batch belongs to rows[i], or ranges[i]."""

    def __len__(self) -> int: ...
    def cancel(self) -> None:
        """What has not completed completes as "cancelled"; a write in flight is waited for before that."""
    def blocks(self, index: int) -> bytes:
        """The block digests of a finished range, 16 bytes each."""
    def crc(self, index: int) -> int:
        """The CRC of a finished range. ValueError: none was asked for."""
    def announced(self, index: int) -> tuple[str, bytes, int, str]:
        """What the answer to a HEAD announced of an object: kind ("crc32", "crc32c", "crc64nvme", "sha1", "sha256",
        "md5", "": nothing that could be compared), value, how many parts' sums it is the sum of (0: of the bytes), and
        why there is nothing, as in `Entries.whys`. ValueError: not a batch of heads.
        """
    def part(self, index: int) -> tuple[int, int, int]:
        """Of a stored part: its offset and length, and how many the object has; each -1 where the answer did not say,
        or not of the object that is pinned. ValueError: not a batch of parts.
        """
    def mtime_ns(self, index: int) -> int | None:
        """The mtime that the answer to a HEAD tells in x-amz-meta-mtime, else the row's; None: neither says one.
        ValueError: not a batch of heads.
        """
    def told(self, index: int) -> tuple[int, bytes, bytes]:
        """Size, ETag and version id (b"": none) of a finished object of `Engine.look_up`. ValueError: not one."""
    def scan_list(
        self,
        table: KeyTable,
        key_skip: int,
        *,
        after: bytes | None = None,
        upto: bytes | None = None,
        rest: KeyTable | None = None,
    ) -> ListPage:
        """Scan the answer of `Engine.list_page` into ``table``, dropping key_skip bytes (the prefix) of each key.
        Rows from the first key above ``upto`` on go to ``rest``; both bounds are keys without the prefix.
        Every key must start with the template's key_prefix. ValueError: not a ListObjectsV2 answer as we accept it
        (the text says what), or the page has not been drained.
        """

@final
class Engine:
    """N epoll workers, disk threads, one completion ring and one eventfd.

    ``workers`` 0: as many as CPUs in the affinity mask and the cgroup quota, at most 16. ``buffer_bytes``: a
    multiple of 4096 in 64 KiB..8 MiB; at least two (and 16 KiB each for a head) must fit in ``memory_bytes``.
    ``keep_cached_bytes``: of what is written, so much stays in the page cache; 0: all of it (csrc/behind.h).
    ``requests_per_second``, ``bytes_per_second``: of all workers together, 0 is no limit; what may go at once besides
    is 20 ms of the requests (at least one) and 50 ms of the bytes (at least 1 KiB).
    ValueError when a limit does not fit.
    RuntimeError from every method in a forked process, and from the fetches after `close`.
    """

    def __init__(
        self,
        *,
        workers: int = 0,
        disk_threads: int = 2,
        connections: int = 32,
        memory_bytes: int = ...,
        buffer_bytes: int = ...,
        ring_slots: int = 8192,
        connect_timeout_ms: int = 10_000,
        stall_timeout_ms: int = 60_000,
        keep_cached_bytes: int = 0,
        requests_per_second: float = 0,
        bytes_per_second: int = 0,
    ) -> None: ...
    def fileno(self) -> int:
        """The eventfd: readable when `drain` has something."""
    def fetch_objects(
        self,
        template: Template,
        table: KeyTable,
        rows: Sequence[int],
        root_fd: int,
        tmp_fd: int,
        *,
        preserve: bool = False,
        targets: Targets | None = None,
    ) -> Batch:
        """Whole objects (no Range), each written to tmp_fd, checked and renamed to its key below root_fd. The
        descriptors are duplicated and closed before the last completion can be drained. A row with permission bits
        in its mode is created with them (by umask), else 0666; with ``preserve`` it gets the mtime of its answer's
        x-amz-meta-mtime, else of its row. array("I") is taken as it is. ``targets``: see `Targets`; each object's
        bytes are compared with its SHA-256 then, and no ETag is.
        IndexError: a row that is not there; ValueError: no rows, or not a target for each.
        """
    def fetch_heads(self, template: Template, table: KeyTable, rows: Sequence[int]) -> Batch:
        """A HEAD of each object, before what else is waiting. A server that refuses (a 4xx, 501) or speaks of another
        object announces nothing, which is no failure: the object's own requests will say why.
        """
    def fetch_parts(
        self, template: Template, table: KeyTable, rows: Sequence[int], numbers: Sequence[int]
    ) -> Batch:
        """A HEAD of a stored part of each row, by its number from 1 on; otherwise as `fetch_heads`. ValueError: a
        number that no part has.
        """
    def look_up(self, template: Template, table: KeyTable, rows: Sequence[int]) -> Batch:
        """A HEAD of what lies under each row's key, pinned as far as its identity goes; see `Batch.told`. Its size does
        not count, and a refusal is a failure. IndexError; ValueError: no rows.
        """
    def fetch_ranges(
        self,
        template: Template,
        table: KeyTable,
        row: int,
        ranges: Sequence[tuple[int, int]],
        fd: int,
        crc: str | None = None,
        targets: Targets | None = None,
    ) -> Batch:
        """(offset, length) parts of one object, written at their offsets in fd. Offsets are multiples of
        BLOCK_BYTES, lengths too, except where the object ends. The descriptor is duplicated. A range that is the
        whole object goes without Range. ``crc``: the kind to compute of each; see `crc_update`. ``targets``: the one
        of the object; its SHA-256 is not compared with parts. ValueError: no range, one off the grid or outside of
        the object, no such kind, or another number of targets.
        """
    def list_page(self, template: Template, query: bytes) -> Batch:
        """One GET of the bucket with the canonical query given; the answer stays native until scan_list."""
    def drain(self) -> list[tuple[Batch, array[int], list[Failure]]]:
        """Completions since the last call, by batch: indices that finished (array("q")), and failures. Still works
        after `close`, for what was under way then.
        """
    def limit(self, *, requests_per_second: float, bytes_per_second: int) -> None:
        """The engine's own limits from now on, of all endpoints together; 0 is none. ValueError: out of range."""
    def stats(self) -> dict[str, int]:
        """The limits of `limit` as they are now (``bytes_per_second``, ``requests_per_1000_s``), and counters since
        start: requests, connections opened, bytes received, requests sent again because a kept connection had ended
        (``stale_retries``) or the answer was late (``late_retries``); and what threads and connections spent their
        time on, for `stager.bottleneck.Usage.between` (csrc/engine.h).
        """
    def close(self) -> None:
        """Cancel, wait for the writes in flight, join the threads. Idempotent."""

def reserve(fd: int, size: int) -> None:
    """Give an empty file its length, and reserve the space where that is possible and cheap (not on tmpfs). OSError."""

def publish(
    tmp_fd: int, name: bytes, root_fd: int, path: bytes, *, mtime_ns: int | None = None
) -> tuple[int, int]:
    """Rename a finished temporary to ``path`` below root_fd, making directories; no symlink is followed and none
    leads outside (openat2 RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, or a component-wise walk without it).
    With ``mtime_ns`` that is its time of change from then on. Returns (mtime_ns, ctime_ns). OSError.
    """

def stat_below(root_fd: int, path: bytes) -> tuple[int, int, int, int]:
    """Lstat below root_fd by the same rules: (mode, size, mtime_ns, ctime_ns). OSError."""

def hide_memory() -> None:
    """Leave no core, and let only root trace this process or read its environment (PR_SET_DUMPABLE, prctl(2))."""

def copy_file(
    source_dir_fd: int, source: bytes, tmp_fd: int, root_fd: int, path: bytes, mode: int, *, preserve: bool = False,
    sha256: bytes | None = None,
) -> tuple[int, bytes, int, int]:
    """Copy a regular file, hashing on the way, and publish it: (size, digest, mtime_ns, ctime_ns). The source is
    opened with O_NOFOLLOW below source_dir_fd and its size, mtime and ctime are the same before and after, else
    OSError(ESTALE). ``preserve``: the copy gets its mtime. ``sha256``: of its bytes, else OSError(EBADMSG). Where the
    file system can, both share their blocks until one is written to. Releases the GIL.
    """

def digest_fd(fd: int) -> tuple[int, bytes]:
    """(size, xxh3-128t) of an open file, from its start. Releases the GIL. OSError."""

def read_back(fd: int, offset: int, length: int, kind: str | None) -> tuple[bytes, int]:
    """Digest and CRC (of that ``kind``; None: 0) of at most BLOCK_BYTES of an open file. Releases the GIL.
    OSError: also where the file ends before (ENODATA). ValueError: another length, a negative offset, no such kind.
    """

def digest_bytes(data: bytes) -> bytes:
    """xxh3-128t of a byte string."""

def combine_blocks(blocks: bytes) -> bytes:
    """The xxh3-128t digest from the concatenated block digests (one block: itself; none: ValueError)."""

def crc_update(kind: str, value: int, data: bytes) -> int:
    """The CRC of what ``value`` stands for (0: nothing), with ``data`` behind it.

    ``kind``: "crc32", "crc32c", "crc64nvme"; another is a ValueError. OverflowError: the value has too many bits.
    """

def crc_combine(kind: str, a: int, b: int, len_b: int) -> int:
    """The CRC of a sequence from that of its first part and that of the ``len_b`` bytes after it. Errors as above;
    ValueError: a negative length.
    """

@final
class Frontier:
    """The checksum of a file's bytes, taken in order while they are still coming; see csrc/frontier.h.

    ``kind`` as in `Batch.announced`. ``ends``: where stored parts end, ascending; the value is then the sum of their
    sums. ValueError: no such kind, ends that do not ascend. OSError(EOPNOTSUPP): this OpenSSL does not offer it.
    """

    def __init__(self, kind: str, ends: Sequence[int] = ()) -> None: ...
    def advance(self, fd: int, upto: int) -> None:
        """Take the bytes before ``upto``. Releases the GIL. OSError: the file cannot be read, or ends before (ENODATA).
        ValueError: the parts end before.
        """
    @property
    def at(self) -> int:
        """Bytes taken."""
    def finish(self) -> bytes:
        """The value, once. ValueError: a part is not at its end."""
