# Sourced by the scripts that need tools from outside: notes what is missing, then installs it or says what to do.

missing_tools=()
missing_packages=()

# need COMMAND PACKAGE: COMMAND must be on the path; Debian's PACKAGE has it.
need() {
    command -v "$1" >/dev/null && return
    missing_tools+=("$1")
    missing_packages+=("$2")
}

# Ends the script with a sentence when a needed tool is missing and cannot be installed here.
satisfy_needs() {
    [ ${#missing_tools[@]} -eq 0 ] && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing ${missing_packages[*]} (missing: ${missing_tools[*]})" >&2
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update && apt-get install -y --no-install-recommends "${missing_packages[@]}"; } >&2 ||
            { echo "error: apt-get could not install ${missing_packages[*]}; install them by hand" >&2; exit 1; }
        missing_tools=() missing_packages=()
        return
    fi
    echo "error: missing ${missing_tools[*]}; on Debian or Ubuntu: sudo apt-get install -y ${missing_packages[*]}" >&2
    exit 1
}
