# strongroom, role auditor: which keys are there, since when, and whether somebody replaced or deleted one.
# It reads public records and the history of versions, and no sealed key. It writes nothing.

path "{{mount}}/data/{{prefix}}/public/*" {
  capabilities = ["read"]
}

path "{{mount}}/metadata/{{prefix}}/*" {
  capabilities = ["read", "list"]
}
