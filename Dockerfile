# Rhizome in a container: the program alone, as nobody in particular, with nothing to write to but
# its state.
#
#   docker build -t rhizome .
#   docker run --read-only -v rhizome-state:/var/lib/rhizome -v "$PWD:/etc/rhizome:ro" rhizome
#
# Two images come of it: `rhizome` (the last stage, the one that is made unless another is named)
# and, with `--target worker`, a machine for docker-compose.yml. It needs no BuildKit.

# The compiler: an image of Debian 12 with Rust 1.95 or newer, a C compiler, make and perl.
ARG BUILDER=rust:1.95-bookworm
# What it runs on: any image with Debian 12's C library, or a newer one. It needs no shell.
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS build
# `release`, or `quick`: compiled in a third of the time, and several times as slow.
ARG PROFILE=release
WORKDIR /src
# The dependencies first, in a layer that lasts until one of them changes.
COPY Cargo.toml Cargo.lock ./
COPY engine/Cargo.toml engine/
COPY connectors/Cargo.toml connectors/
COPY actions/Cargo.toml actions/
COPY standin/Cargo.toml standin/
# Cargo wants to see the benchmarks that they name, and nobody else does.
RUN sed -i '/^\[\[bench]]$/,/^$/d' Cargo.toml */Cargo.toml \
 && for folder in . engine connectors actions standin; do \
      mkdir -p $folder/src && echo '//! Stands in.' >$folder/src/lib.rs; done \
 && printf '//! Stands in.\nfn main() {}\n' >src/main.rs \
 && cargo build --locked --profile "$PROFILE" --bin rhizome
COPY src src
COPY engine/src engine/src
COPY connectors/src connectors/src
COPY actions/src actions/src
COPY actions/templates actions/templates
COPY standin/src standin/src
# Cargo goes by times, and these files may be older than the empty ones that stood in for them.
RUN touch src/lib.rs src/main.rs */src/lib.rs \
 && cargo build --locked --profile "$PROFILE" --bin rhizome \
 && install -D "target/$PROFILE/rhizome" /out/usr/local/bin/rhizome \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
 && install -d -o 65532 -g 65532 -m 700 /state

# A machine of docker-compose.yml: a collectd, and a light guest that joins the cluster.
FROM ${BASE} AS worker
RUN apt-get update \
 && apt-get install -y --no-install-recommends collectd-core librdkafka1 libyajl2 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/rhizome"]
CMD ["standin", "guest"]

FROM ${BASE} AS rhizome
COPY --from=build /out/ /
COPY --from=build --chown=65532:65532 /state /var/lib/rhizome
# Volumes that are made here belong to whom the folder belongs to.
COPY --from=build --chown=65532:65532 /state /run/secrets/rhizome
USER 65532:65532
WORKDIR /var/lib/rhizome
ENV RHIZOME_CONFIG=/etc/rhizome/rhizome.yaml
EXPOSE 8420
# Another address or a CA: RHIZOME_SERVER and RHIZOME_CA, as for every command that asks.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/rhizome", "health"]
ENTRYPOINT ["/usr/local/bin/rhizome"]
CMD ["run"]
