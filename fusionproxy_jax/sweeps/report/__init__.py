"""What a sweep found: tables, charts and pictures of whatever lies in its folder."""
