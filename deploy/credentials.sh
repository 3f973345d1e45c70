#!/bin/sh
# Makes what the processes of a cluster show each other, with nothing but openssl:
#
#     deploy/credentials.sh DIR [NAME[=HOST,HOST...]]...
#
# In DIR, for each NAME (the id of a coordinator or worker, or the name of a nats-server) a certificate of an
# authority of its own, and then:
#
#     ca.pem, ca-key.pem        the authority; ca-key.pem belongs on no machine of the cluster
#     NAME.pem, NAME-key.pem    a certificate for NAME, localhost, 127.0.0.1 and each HOST, as server and as client
#     nats-users.conf           nats/users.conf, which lies beside this script, with the passwords included, and
#                               its lines for delivery, since there is a cluster key
#     NAME.password             the password of a NATS user that is in it
#     nats-passwords.conf       all of them, as the variables that it names
#     admin.key, worker.key     API keys, as `varpulis key new FILE` makes them
#     cluster.key               the cluster key, as `varpulis key new FILE --cluster` makes it
#     grafana.password          for Grafana's admin
#
# Without names: those of deploy/docker. PREFIX=demo-varpulis- puts that before the ids of coordinators and workers, as
# pods of a release `demo` have them. What is there is kept, so a further name may be added later (a NATS user to
# nats-users.conf first). Nothing of it belongs into a repository or an image. Files are for their owner and group (mode 640).
set -eu

if [ $# -lt 1 ]; then
    echo "usage: $0 DIR [NAME[=HOST,HOST...]]..." >&2
    exit 2
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "$1"
cd "$1"
shift
PREFIX=${PREFIX:-}
[ $# -gt 0 ] || set -- nats-0 nats-1 nats-2 "${PREFIX}coordinator-0" "${PREFIX}coordinator-1" "${PREFIX}coordinator-2" \
    "${PREFIX}worker-0" "${PREFIX}worker-1" operator client observer system
umask 027
set -f # hosts may hold a star
DAYS=${DAYS:-825}
extensions=.extensions
trap 'rm -f "$extensions" .request' EXIT

word() { # so many random bytes, in hexadecimal, behind a letter: nats-server would read digits as a number
    echo "p$(openssl rand -hex "$1")"
}

base64url() { # of so many random bytes
    openssl rand -base64 "$1" | tr -d '=\n' | tr '+/' '-_'
}

variable_of() { # the name that users.conf has for the password of a user
    echo "VARPULIS_NATS_$(echo "${1#"$PREFIX"}" | tr 'a-z-' 'A-Z_')"
}

if [ ! -e nats-users.conf ]; then
    echo "include ./nats-passwords.conf" > nats-users.conf
    sed -E -e 's/# delivery: //' -e "s/(coordinator|worker)-([0-9])/$PREFIX\1-\2/g" "$here/nats/users.conf" \
        >> nats-users.conf
fi

if [ ! -e ca.pem ]; then
    openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 3650 \
        -subj "/CN=varpulis cluster authority" -keyout ca-key.pem -out ca.pem \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" 2> /dev/null
    chmod 600 ca-key.pem
    chmod 644 ca.pem
fi

for each in "$@"; do
    name=${each%%=*}
    hosts=${each#"$name"}
    hosts=${hosts#=}
    if [ ! -e "$name.pem" ]; then
        names="DNS:$name,DNS:localhost,IP:127.0.0.1"
        for host in $(echo "$hosts" | tr ',' ' '); do
            case $host in
                *[!0-9.]*) names="$names,DNS:$host" ;;
                *) names="$names,IP:$host" ;;
            esac
        done
        {
            echo "basicConstraints=critical,CA:FALSE"
            echo "keyUsage=critical,digitalSignature"
            echo "extendedKeyUsage=serverAuth,clientAuth"
            echo "subjectKeyIdentifier=hash"
            echo "authorityKeyIdentifier=keyid"
            echo "subjectAltName=$names"
        } > "$extensions"
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -subj "/CN=$name" \
            -keyout "$name-key.pem" -out .request 2> /dev/null
        openssl x509 -req -in .request -CA ca.pem -CAkey ca-key.pem -sha256 -days "$DAYS" \
            -set_serial "0x$(openssl rand -hex 16)" -extfile "$extensions" -out "$name.pem" 2> /dev/null
        chmod 640 "$name-key.pem"
    fi
    variable=$(variable_of "$name")
    if [ ! -e "$name.password" ] && grep -q "\$$variable[ ,}]" nats-users.conf; then
        word 24 > "$name.password"
        echo "$variable: $(cat "$name.password")" >> nats-passwords.conf
    fi
done

for role in admin worker; do
    [ -e "$role.key" ] || echo "vk_$(openssl rand -hex 6)_$(base64url 32)" > "$role.key"
done
[ -e cluster.key ] || echo "$(date -u +k%Y%m%d-%H%M%S) $(base64url 32)" > cluster.key
[ -e grafana.password ] || word 24 > grafana.password
