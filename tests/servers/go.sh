# Programs in Go that are built here from their modules, once, into the user's cache. Sourced
# after common.sh.
version=v1.36.3

# go_program PROGRAM FOLDER PACKAGE: builds a package of the module in FOLDER unless it is in the
# cache, and sets `program` to the file.
go_program() {
  local what=$1 folder=$2 package=$3 sum flags each
  sum=$( (cd "$folder"; for each in main.go go.mod go.sum; do [ ! -e $each ] || cat $each; done) | sha256sum | cut -c1-12)
  program=$cache/$what-$version-$sum
  [ ! -x "$program" ] || return 0
  go_is_there
  exec 8>"$cache/$what.lock"; flock -w 3600 8 || die "another build holds $cache/$what.lock"
  if [ ! -x "$program" ]; then
    say "building $what $version with $(go env GOVERSION), this takes minutes"
    flags="-s -w"
    for each in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
      flags+=" -X $each.gitVersion=$version -X $each.gitTreeState=clean"
      flags+=" -X $each.gitMajor=1 -X $each.gitMinor=36"
    done
    (cd "$folder" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$flags" -o "$program.new" "$package") \
      >"$state/build-$what.log" 2>&1 8>&- || cannot "Go could not build $what, see $state/build-$what.log"
    mv "$program.new" "$program"
  fi
  exec 8>&-
}

# Go of the machine, or Debian's. Go fetches the version that go.mod asks for by itself, which
# it has been able to do since 1.21; Debian 12 has 1.19.
go_is_there() {
  PATH=$PATH:/usr/local/go/bin
  need go golang-go
  case $(go env GOVERSION) in
    go1.2[1-9]* | go1.[3-9][0-9]*) ;;
    *) cannot "$(go version) is too old: install Go 1.21 or newer";;
  esac
}
