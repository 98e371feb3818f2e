# Where requests go and what they carry.

cdef size_t fill_addresses(stg_address *out, object addresses, uint16_t port) except 0:
    cdef size_t count = 0
    cdef bytes packed
    for family, packed in addresses:
        if count == STG_ENDPOINT_MAX_ADDRESSES:
            break
        if stg_address_set(&out[count], family, <const char *>packed, len(packed), port) < 0:
            raise ValueError(f"not an address of family {family}: {packed!r}")
        count += 1
    if count == 0:
        raise ValueError("no address")
    return count


cdef bytes host_bytes(str host):
    return host.encode("ascii" if host.isascii() else "idna")


cdef stg_tls *new_tls(str host, str ca_file, bint verify) except NULL:
    cdef stg_tls *context = NULL
    cdef bytes host_text = host_bytes(host), ca_text = b"" if ca_file is None else os.fsencode(ca_file)
    if verify and ca_file is None:
        raise ValueError("ca_file must be given to verify the server")
    if not host or host.startswith(".") or "\0" in host:
        raise ValueError(f"not a host name to verify: {host!r}")
    check(stg_tls_new(host_text, <const char *>ca_text if ca_file is not None else NULL, verify, &context), ca_file)
    return context


cdef int show_certificate(stg_tls *context, tuple certificate) except -1:
    """A client's, and its key."""
    cdef bytes shown = os.fsencode(certificate[0]), key = os.fsencode(certificate[1])
    if b"\0" in shown or b"\0" in key:
        raise ValueError("not a path of a certificate")
    check(stg_tls_show(context, <const char *>shown, <const char *>key), certificate[0])
    return 0


cdef stg_proxy *new_proxy(str host, uint16_t port, tuple proxy, str ca_file, bint verify) except NULL:
    cdef stg_proxy *through = NULL
    cdef stg_tls *context = NULL
    cdef bytes authority = b"%b:%d" % (b"[%b]" % host_bytes(host) if ":" in host else host_bytes(host), port)
    cdef bytes authorization = (<str>proxy[1]).encode()
    if proxy[2] is not None:
        context = new_tls(proxy[2], ca_file, verify)
    check_arguments(stg_proxy_new(context, as_str(authority), as_str(authorization), &through),
                    "a host that is no name, or an authorization that cannot be sent")
    return through


@cython.final
cdef class Endpoint:
    cdef stg_endpoint *endpoint
    cdef Engine engine
    cdef uint16_t port

    def __cinit__(self, Engine engine not None, *, str host not None, uint16_t port, bint tls, addresses,
                  str ca_file=None, bint verify=True, tuple proxy=None, tuple certificate=None):
        cdef stg_address fresh[STG_ENDPOINT_MAX_ADDRESSES]
        cdef size_t count
        cdef stg_tls *context = NULL
        cdef stg_proxy *through = NULL
        self.engine = engine
        self.port = port if proxy is None else proxy[0]
        count = fill_addresses(fresh, addresses, self.port)
        if proxy is not None:
            through = new_proxy(host, port, proxy, ca_file, verify)
        try:
            if tls:
                context = new_tls(host, ca_file, verify)
                if certificate is not None:
                    show_certificate(context, certificate)
        except:
            stg_tls_free(context)
            stg_proxy_free(through)
            raise
        self.endpoint = stg_endpoint_new(context, through, fresh, count)
        if self.endpoint is NULL:
            raise MemoryError

    def __dealloc__(self):
        stg_endpoint_unref(self.endpoint)

    def update(self, addresses):
        cdef stg_address fresh[STG_ENDPOINT_MAX_ADDRESSES]
        check(stg_endpoint_update(self.endpoint, fresh, fill_addresses(fresh, addresses, self.port)))

    def pace(self, *, unsigned connections, double requests_per_second):
        check_arguments(stg_engine_pace(self.engine.engine, self.endpoint, connections, requests_per_second),
                        "a rate out of range")

    def used(self):
        cdef stg_pace_sum_t used = stg_pace_sum(stg_endpoint_pace(self.endpoint))
        return used


cdef list header_pairs(object headers):
    return [(name.lower().encode("ascii"), value.strip().encode()) for name, value in headers]


cdef size_t fill_headers(stg_header *out, list pairs) except? 999:
    cdef size_t count = 0
    cdef bytes name, value
    if len(pairs) > STG_SIGV4_MAX_HEADERS - 4:
        raise ValueError("too many headers")
    for name, value in pairs:
        for text in (name, value):
            if b"\r" in text or b"\n" in text or b"\0" in text:
                raise ValueError("a header holds a line break")
        out[count].name = as_str(name)
        out[count].value = as_str(value)
        count += 1
    return count


@cython.final
cdef class Signer:
    cdef stg_signer *signer

    def __cinit__(self, *, str access_key not None, str secret_key not None, str token, str region not None,
                  str service="s3"):
        cdef bytes access = access_key.encode(), secret = secret_key.encode(), session = (token or "").encode()
        cdef bytes where = region.encode(), what = service.encode()
        self.signer = stg_signer_new(as_str(access), as_str(secret), as_str(session), as_str(where), as_str(what))
        if self.signer is NULL:
            raise MemoryError

    def __dealloc__(self):
        stg_signer_unref(self.signer)

    def update(self, *, str access_key not None, str secret_key not None, str token):
        cdef bytes access = access_key.encode(), secret = secret_key.encode(), session = (token or "").encode()
        check(stg_signer_update(self.signer, as_str(access), as_str(secret), as_str(session)))

    def set_clock_skew(self, int64_t seconds):
        stg_signer_set_skew(self.signer, seconds)

    def sign(self, str method not None, bytes path not None, bytes query not None, headers, int64_t unix_s):
        cdef stg_header given[STG_SIGV4_MAX_HEADERS]
        cdef list pairs = header_pairs(headers)
        cdef size_t count = fill_headers(given, pairs)
        cdef bytes verb = method.encode()
        cdef char *out = <char *>malloc(SIGNATURE_BYTES)
        cdef stg_credentials *credentials
        cdef ssize_t size
        if out is NULL:
            raise MemoryError
        try:
            credentials = stg_signer_credentials(self.signer)
            size = stg_sigv4_sign(credentials, unix_s, as_str(verb), as_str(path), as_str(query), given, count, out,
                                  SIGNATURE_BYTES)
            stg_credentials_unref(credentials)
            check_arguments(size, "a value holds a character that cannot be signed")
            lines = out[:size].decode().splitlines()
        finally:
            free(out)
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


@cython.final
cdef class Targets:
    cdef stg_targets *targets

    def __cinit__(self, items):
        cdef stg_header given[STG_SIGV4_MAX_HEADERS]
        cdef list pairs
        cdef size_t count, index = 0
        cdef bytes path, sha256
        cdef int status
        self.targets = stg_targets_new(len(items))
        if self.targets is NULL:
            raise MemoryError
        for path, headers, sha256 in items:
            pairs = header_pairs(headers)
            count = fill_headers(given, pairs)
            if len(sha256) != STG_SHA_BYTES:
                raise ValueError("a SHA-256 has 32 bytes")
            status = stg_targets_set(self.targets, index, as_str(path), given, count, <const uint8_t *><const char *>sha256)
            if status == -errno.EMSGSIZE:
                raise ValueError("a target or its header fields are too long")
            check_arguments(status, "a target or a header field that cannot be sent")
            index += 1

    def __dealloc__(self):
        stg_targets_unref(self.targets)

    def __len__(self):
        return stg_targets_count(self.targets)


cdef dict ETAGS = {"none": STG_ETAGS_NONE, "plain": STG_ETAGS_PLAIN, "parts": STG_ETAGS_PARTS}


@cython.final
cdef class Template:
    cdef stg_template *template_
    cdef Endpoint endpoint
    cdef Signer signer

    def __cinit__(self, Endpoint endpoint not None, Signer signer, *, str host_header not None,
                  bytes path_prefix not None, headers=(), bytes key_prefix not None=b"", str etags not None="none",
                  str required=None, bint refuse_parts=False):
        cdef stg_header extra[STG_SIGV4_MAX_HEADERS]
        cdef list pairs = header_pairs(headers)
        cdef size_t count = fill_headers(extra, pairs)
        cdef bytes host = host_header.encode("ascii")
        if any(c in host + path_prefix for c in b"\r\n\0 "):
            raise ValueError("a blank or line break in host_header or path_prefix")
        self.endpoint = endpoint
        self.signer = signer
        self.template_ = stg_template_new(endpoint.endpoint, NULL if signer is None else signer.signer, as_str(host),
                                          as_str(path_prefix), as_str(key_prefix), extra, count)
        if self.template_ is NULL:
            raise MemoryError
        stg_template_set_checks(self.template_, ETAGS[etags], ord(required) if required else 0,
                                refuse_parts)

    def __dealloc__(self):
        stg_template_unref(self.template_)
