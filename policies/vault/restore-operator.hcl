# strongroom, role restore-operator: whoever restores, verifies copies or fetches a key.
# It reads sealed keys, which open with a custodian's identity and with nothing that is in the Vault. It writes nothing.

path "{{mount}}/data/{{prefix}}/sealed/*" {
  capabilities = ["read"]
}

path "{{mount}}/data/{{prefix}}/public/*" {
  capabilities = ["read"]
}

path "{{mount}}/metadata/{{prefix}}/public/*" {
  capabilities = ["list"]
}
