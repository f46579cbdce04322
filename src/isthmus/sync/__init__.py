"""Moving files between here and the bucket: hashed, named by content, the manifest last."""
