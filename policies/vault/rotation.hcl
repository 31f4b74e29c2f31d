# strongroom, role rotation: whoever puts a new key in an old one's place, and may have to open the old one for it.
# It puts sealed keys in, reads and lists them. It replaces nothing and deletes nothing: repairing a damaged deposit
# (`strongroom key escrow --repair`) and destroying one are for an administrator, who needs "update" and "delete" on both folders
# below {{mount}}/data/, and "read" and "delete" on them below {{mount}}/metadata/.

path "{{mount}}/data/{{prefix}}/sealed/*" {
  capabilities = ["create", "read"]
}

path "{{mount}}/data/{{prefix}}/public/*" {
  capabilities = ["create", "read"]
}

path "{{mount}}/metadata/{{prefix}}/public/*" {
  capabilities = ["list"]
}
