# shellcheck shell=bash
# Sourced by deploy/dev and deploy/test: installs packages that are missing, Debian's and Python's, and says so first.

# need COMMAND PACKAGE…: notes the packages unless the command is there.
missing=()
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null || [ -n "$(compgen -G "$command")" ] || missing+=("$@")
}

# Installs what was noted: as root, or by sudo where it asks nothing. Else says what to type, and ends.
install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  local install="apt-get install -y --no-install-recommends ${missing[*]}"
  local as=()
  if [ "$(id -u)" != 0 ]; then
    as=(sudo -n)
    if ! sudo -n true 2>/dev/null; then
      printf '\nSome Debian packages are missing, and installing them needs root. Please run:\n\n    sudo %s\n\n' "$install" >&2
      exit 1
    fi
  fi
  command -v apt-get >/dev/null || { printf 'Missing, and there is no apt-get here: %s\n' "${missing[*]}" >&2; exit 1; }
  printf '==> Installing Debian packages: %s\n' "${missing[*]}"
  local log
  log=$(mktemp)
  if ! { "${as[@]}" apt-get update && "${as[@]}" env DEBIAN_FRONTEND=noninteractive $install; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    printf 'Installing failed. To try by hand: apt-get update && %s\n' "$install" >&2
    exit 1
  fi
  rm -f "$log"
  missing=()
}

# What the development stack itself needs.
need_stack() {
  need '/usr/lib/postgresql/*/bin/initdb' postgresql
  need psql postgresql-client
  need redis-server redis-server
  need redis-cli redis-tools
  need python3 python3
  need setpriv util-linux
  need cc gcc libc6-dev
  need make make # the allocator is built by it
}

# The toolchain is the one thing that is not Debian's.
need_cargo() {
  command -v cargo >/dev/null || { echo 'A Rust toolchain is missing: see https://rustup.rs' >&2; exit 1; }
}

# For install_python, before install_missing.
need_python() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
}

# install_python VENV FILE…: a venv with what these requirement files name, made anew when they change.
install_python() {
  local venv=$1 stamp log
  shift
  stamp=$({ python3 --version; cat "$@"; } | sha256sum)
  [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ] || return 0
  printf '==> Installing Python packages into %s\n' "$venv"
  log=$(mktemp)
  rm -rf "$venv"
  if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --disable-pip-version-check -q "${@/#/-r}"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    echo 'Python packages could not be installed' >&2
    exit 1
  fi
  rm -f "$log"
  echo "$stamp" >"$venv/stamp"
}
