"""What two output directories of infopt differ in."""
