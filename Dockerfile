# One image for all of reprise's programs. `./dev image` builds it.
#
# The last stage holds the programs, the libraries that they load, certificates of public authorities and time zones,
# and nothing else: no shell, no package manager. It runs as any user and writes nothing, so its root can be read-only.

FROM docker.io/library/rust:1.95.0-slim-bookworm AS system
# What librdkafka is compiled with: TLS and SASL (PLAIN, SCRAM, OAUTHBEARER) come from OpenSSL; zstd is compiled in.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        g++ make pkg-config libssl-dev zlib1g-dev ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/*

FROM system AS programs
WORKDIR /source
COPY . .
# The file of the authorities that cargo trusts, where a proxy has one of its own; it does not get into the image.
ARG CARGO_HTTP_CAINFO
# All members are resolved together, as in the tests, so these are the features that were tested.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin reprise-control-plane --bin reprise-worker --bin reprisectl \
    && mkdir /programs \
    && cp target/release/reprise-control-plane target/release/reprise-worker target/release/reprisectl /programs/ \
    && strip --strip-debug /programs/*

FROM system AS files
COPY image/root.sh /
COPY --from=programs /programs /programs
RUN /root.sh /image /programs/*

FROM scratch
LABEL org.opencontainers.image.title="reprise" \
    org.opencontainers.image.description="Moves records from Kafka into MySQL through a whitelist, and can process any of them again." \
    org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=files /image /
# Where OpenSSL and rustls look for the public authorities.
ENV PATH=/usr/local/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
WORKDIR /
CMD ["/usr/local/bin/reprise-control-plane", "--help"]
