"""What runs foreign clients against the router: processes, peers, scenarios, report."""
