"""What the line does to which photo, as data: the policy and the manifests beside photos."""
