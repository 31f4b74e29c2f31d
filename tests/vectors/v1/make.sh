#!/bin/sh
# How this folder was made, with the first version of the format. For the record: what stands here is never made again.
#
#   make.sh STRONGROOM FOLDER
set -eu
program=$1
mkdir -m 700 "$2"
cd "$2"
export HOME="$PWD/home" PATH="/usr/bin:/bin"
mkdir -m 700 home app app/storage app/storage/deep
umask 077

printf '%s\n' 'ENCRYPTION_KEY=q2Vw0N9m7yQk3rT5uX8zB1dF4hJ6lP0sA2cE4gI6kM8=' >app/.env
# Ciphertexts as @package-broker/core made them: tests/vectors/package-broker-vectors.json, the first of them.
sqlite3 app/database.sqlite "
    CREATE TABLE repositories (id TEXT PRIMARY KEY, url TEXT, vcs_type TEXT, credential_type TEXT, auth_credentials TEXT NOT NULL);
    CREATE TABLE artifacts (id TEXT PRIMARY KEY, repo_id TEXT, file_key TEXT);
    INSERT INTO repositories SELECT 'r' || value, 'https://git.example/' || value, 'git', 'http-basic',
        'CVlfA9z9lSxHLfuEd7ibImT/AIzo+DX4qLuhBpG6l66XV0sCr9suHBuslt4MLxveSjWzUfizC4UMArlb41BmjKPKjLPfr9ePTD4tHG2CFToyYGU='
        FROM json_each('[1, 2, 3]');"
printf 'a text that compresses, a text that compresses, a text that compresses\n' >app/storage/text.md
openssl enc -aes-256-ctr -nosalt -K 00 -iv 00 </dev/zero 2>/dev/null | head -c 5000 >app/storage/deep/dense.zip
: >app/storage/empty
ln -s text.md app/storage/link
printf 'a name that is no text\n' >"app/storage/$(printf 'n\377me')"

"$program" init --yes --database sqlite:app/database.sqlite --storage file:app/storage --archive file:archive \
    --key-source dotenv:app/.env#ENCRYPTION_KEY || [ $? = 3 ]
"$program" backup
printf 'a second version\n' >app/storage/text.md
printf '#!/bin/sh\numask 077; { printf ENCRYPTION_KEY=; cat; echo; } >%s/app/new.env && mv %s/app/new.env %s/app/.env\n' "$PWD" "$PWD" "$PWD" >set-key
chmod 700 set-key
sed -i "s|^.app.\$|&\nset_key = [\"$PWD/set-key\"]|" strongroom.toml
"$program" key rotate --yes --reason "the first version" || [ $? = 3 ]
