# strongroom, role backup-host: the host that backs up every night.
# It puts sealed keys in and sees that they are there. It reads no sealed key, replaces nothing and deletes nothing: who takes
# the host over gets none of the keys that it put in before, and can spoil none.
# The policy `default`, which tokens have unless somebody takes it away, lets it look up and renew its own token.

path "{{mount}}/data/{{prefix}}/sealed/*" {
  capabilities = ["create"]
}

path "{{mount}}/data/{{prefix}}/public/*" {
  capabilities = ["create", "read"]
}
